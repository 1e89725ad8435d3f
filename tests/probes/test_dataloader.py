"""The probe `dataloader`: this image passes, faults trip their checks, and nothing is left."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
import torch

from probes.catalog import DATALOADER
from probes.contract import MIB, Comparison, Finding, Status
from probes.dataloader import drawing, ending, failing, memory, pinned, probe, running
from probes.dataloader.datasets import Calls, Places, table
from probes.dataloader.memory import SharedMemory
from probes.dataloader.room import room_finding
from probes.dataloader.spec import Limits
from probes.faults.inject import loading
from tests.probes.corrupt import Corrupt, Fault, nan, tripped_families, zeros
from tests.probes.verdicts import ids, tripped, tripped_alone

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[2]
OF_DEVICES: Final = {"pinned", "forked_use"}
ROOMY: Final = SharedMemory(size_bytes=4096 * MIB, free_bytes=2048 * MIB)


@pytest.fixture(autouse=True)
def _undisturbed() -> Iterator[None]:
    """Each test has the handler of signals and the random state that it found."""
    with running.undisturbed():
        yield


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu").model_copy(update={"shared_memory": ROOMY})


def with_family(name: str, *comparisons: Comparison, **fields: Any) -> probe.Observation:
    """A sound observation, as of a GPU, with other comparisons for one check."""
    right = (Comparison(operation="right", elements=1),)
    found = {**dict.fromkeys(OF_DEVICES, right), **sound().families, name: comparisons}
    update = {"families": found, "asked": tuple(found), "skips": {}}
    return sound().model_copy(update={**update, **fields})


def found(check: str, observation: probe.Observation, limits: Limits | None = None) -> Finding:
    """The finding of one check."""
    judged = probe.judge(observation, limits or Limits())
    return next(each for each in judged if each.id == f"dataloader.{check}")


# ---- verdicts


def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, and every check is made but those of devices."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(DATALOADER.check_ids)
    skipped = {each.id.partition(".")[2] for each in findings if each.status == "skip"}
    assert skipped == OF_DEVICES


@pytest.mark.parametrize("check", DATALOADER.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the operation is named."""
    wrong = Comparison(operation="planted", elements=9, mismatches=1)
    failed = tripped_alone(probe.judge(with_family(check, wrong)), f"dataloader.{check}")
    assert (failed.action, bool(failed.hint)) == ("investigate", True)


@pytest.mark.parametrize(
    ("seen", "limit_mib", "status", "text"),
    [
        (ROOMY, 256, "pass", ""),
        (SharedMemory(), 256, "pass", ""),  # a size that is not told
        (SharedMemory(size_bytes=64 * MIB, free_bytes=64 * MIB), 256, "warn", "67108864 bytes"),
        (SharedMemory(size_bytes=64 * MIB, free_bytes=64 * MIB), 64, "pass", ""),
        (ROOMY, 8192, "warn", "in mid-training"),
        (SharedMemory(size_bytes=MIB, free_bytes=MIB), 256, "error", "a worker dies"),
        (SharedMemory(size_bytes=MIB, free_bytes=MIB), 0, "error", "a worker dies"),
        (SharedMemory(problem="there is no /dev/shm"), 0, "error", "there is no /dev/shm"),
    ],
)
def test_the_size_of_shared_memory(
    seen: SharedMemory, limit_mib: int, status: Status, text: str
) -> None:
    """Too small for a batch is an error, less than is comfortable a warning, with what to do."""
    limits = Limits(shared_memory_bytes=limit_mib * MIB)
    finding = found("shared_memory", sound().model_copy(update={"shared_memory": seen}), limits)

    assert (finding.status, finding.message.count(text) > 0) == (status, True)
    if status != "pass":
        assert "--shm-size" in finding.hint
        assert "emptyDir" in finding.hint
        assert finding.action == "fix_config"


def test_full_shared_memory_is_a_warning() -> None:
    """Others hold it: that is no fault of this image, and large batches are not tried."""
    seen = ROOMY.model_copy(update={"free_bytes": 3 * MIB})
    finding = room_finding("dataloader.shared_memory", seen, None, Limits())

    assert (finding.status, "ls -l /dev/shm" in finding.hint) == ("warn", True)
    assert f"{3 * MIB} bytes free of {4096 * MIB}" in finding.message


# ---- torch broken from outside, below observe()


#: Families that are tried under every other meaning, to save time.
FAST: Final = frozenset({"order", "samplers", "worker_info", "persistent"})

#: Name in `LOADERS` -> the families that must trip.
MEANINGS: Final = {
    "last_batch_lost": {"order", "batches"},
    "batches_exchanged": {"order", "worker_info", "persistent"},
    "seed_of_the_order_ignored": {"shuffling", "samplers"},
    "sample_drawn_twice": {"shuffling"},
    "weights_ignored": {"samplers"},
    "ranks_alike": {"samplers"},
    "tail_of_a_stream_lost": {"iterable"},
    "worker_init_fn_ignored": {"worker_info"},
    "seeds_of_workers_alike": {"worker_seeds"},
    "numpy_seeds_alike": {"worker_seeds"},
    "workers_not_kept": {"persistent"},
    "exception_of_another_type": {"exceptions"},
    "exception_lost": {"exceptions"},
    "death_without_a_name": {"deaths"},
}


@pytest.mark.parametrize("name", sorted(loading.LOADERS.keys() - {"not_pinned"}))
def test_another_meaning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that does something else trips the checks that name it, and no other."""
    owner, function, make = loading.LOADERS[name]
    monkeypatch.setattr(owner, function, make(getattr(owner, function)))
    trips = MEANINGS[name] - ({"samplers"} if name == "seed_of_the_order_ignored" else set())

    assert tripped_families(probe, *(FAST | trips)) == trips


@pytest.mark.parametrize(
    ("change", "family"), [("scaled", "batches"), ("zero_tail", "shared_memory")]
)
def test_a_batch_that_is_collated_wrong(
    change: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five per cent off in all batches, or zeros at the end of large ones."""
    collate = loading._collate
    monkeypatch.setattr(
        collate, "default_collate_fn_map", dict(collate.default_collate_fn_map), raising=True
    )
    monkeypatch.setattr(memory, "read", lambda: ROOMY)
    loading.collates_wrong(change)

    assert tripped_families(probe, family, "samplers") == {family}


@pytest.mark.parametrize(
    ("operator", "fault", "family"),
    [
        ("stack", nan, "batches"),
        ("stack", zeros, "order"),
        ("multinomial", zeros, "samplers"),
        ("randperm", zeros, "shuffling"),
        ("randint", zeros, "worker_seeds"),
    ],
)
def test_corrupted_operator(operator: str, fault: Fault, family: str) -> None:
    """A wrong kernel under the loader, here or in its workers, trips the check of its family."""
    with Corrupt(operator, fault):
        assert tripped_families(probe, family) == {family}


def patched(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, make: Any) -> None:
    """Replace a function by what is made of it."""
    monkeypatch.setattr(owner, name, make(getattr(owner, name)))


def sorted_always(original: Any) -> Any:
    """A sampler that does not shuffle."""
    return lambda self: iter(sorted(original(self)))


def rotated(original: Any) -> Any:
    """A sampler that only starts at another place."""

    def draw(self: Any) -> Any:
        count = len(self.data_source)
        first = next(iter(original(self)))
        return iter([(first + index) % count for index in range(count)])

    return draw


@pytest.mark.parametrize("wrong", [sorted_always, rotated])
def test_an_order_that_is_not_random(
    wrong: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sample comes once, and the seed decides, yet it is no shuffling."""
    patched(monkeypatch, torch.utils.data.RandomSampler, "__iter__", wrong)

    assert "random order" in str([each for each in drawing._random_order("cpu") if not each.holds])


def test_a_random_order_is_right_for_other_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the one seed only: no version of the generator is expected."""
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        monkeypatch.setattr(drawing, "_seeded", lambda _seed, g=generator: g)
        assert all(each.holds for each in drawing._random_order("cpu"))


def test_workers_that_stay_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the end of a loader, and when its iterator is dropped."""
    monkeypatch.setattr(ending, "ENDS_S", 0.1)
    for name in ("_shutdown_workers", "__del__"):
        monkeypatch.setattr(loading._loading, name, lambda *_: None)
    try:
        wrong = [each.operation for each in ending._finished("cpu") if not each.holds]
        wrong += [each.operation for each in ending._dropped("cpu") if not each.holds]
    finally:
        running._kill(multiprocessing.active_children())

    assert wrong == ["run to the end (they ended)", "dropped (they ended)"]


def test_descriptors_that_stay_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One a loader."""
    monkeypatch.setattr(ending, "ENDS_S", 0.1)
    kept: list[int] = []
    end = loading._loading._shutdown_workers

    def leak(self: Any) -> None:
        kept.append(os.dup(2))
        end(self)

    monkeypatch.setattr(loading._loading, "_shutdown_workers", leak)
    try:
        wrong = [each.operation for each in ending._left_behind("cpu") if not each.holds]
    finally:
        for descriptor in kept:
            os.close(descriptor)

    assert wrong == ["left behind (descriptors, threads)"]


def with_files(folder: Path, *names: Callable[[int], str]) -> Callable[[Any], Any]:
    """A loader that makes files in a folder; each name is made of the number of its worker."""

    def make(original: Any) -> Any:
        def end(self: Any) -> None:
            for name in names:
                (folder / name(self._workers[0].pid)).touch()
            original(self)

        return end

    return make


def of_the_worker(pid: int) -> str:
    """A file in shared memory that torch makes in a worker."""
    return f"torch_{pid}_1_0"


def test_a_file_that_stays_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the folder of shared memory, with the number of a worker of ours."""
    monkeypatch.setattr(ending, "FOLDER", str(tmp_path))
    monkeypatch.setattr(ending, "ENDS_S", 0.1)
    make = with_files(tmp_path, of_the_worker, lambda _: "torch_1_2_3")  # one of another process
    patched(monkeypatch, loading._loading, "_shutdown_workers", make)
    wrong = [each for each in ending._left_behind("cpu") if not each.holds]

    assert [each.operation for each in wrong] == ["left behind (files)"]
    assert "_1_0" in wrong[0].problem
    assert "torch_1_2_3" not in wrong[0].problem


def test_files_of_other_containers_are_none_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They number their processes alike: what was there before, and what goes again."""
    monkeypatch.setattr(ending, "FOLDER", str(tmp_path))
    theirs = tmp_path / of_the_worker(os.getpid())
    theirs.touch()
    patched(monkeypatch, loading._loading, "_shutdown_workers", with_files(tmp_path, of_the_worker))
    looks = iter(range(3))
    files = ending._files

    def look() -> set[str]:
        if next(looks, None) is None:
            for file in set(tmp_path.iterdir()) - {theirs}:
                file.unlink()
        return files()

    monkeypatch.setattr(ending, "_files", look)

    assert all(each.holds for each in ending._left_behind("cpu"))


def test_a_death_that_nobody_notices_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a look at the process does not tell it, the limit of the loader does."""
    monkeypatch.setattr(running, "WAIT_S", 0.5)
    monkeypatch.setattr("multiprocessing.process.BaseProcess.is_alive", lambda _self: True)
    began = time.monotonic()
    wrong = [each for each in failing._dead("killed", failing._be_killed, "cpu") if not each.holds]

    assert [each.operation for each in wrong] == ["killed (named)"]
    assert "timed out" in wrong[0].problem
    assert time.monotonic() - began < 30


# ---- what is left, and what is restored


def test_nothing_is_left_and_all_is_restored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No process, thread, file or folder; the random state, the signal and multiprocessing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    torch.manual_seed(3)
    before = (
        torch.get_rng_state().tolist(),
        signal.getsignal(signal.SIGCHLD),
        threading.active_count(),
        torch.get_num_threads(),
        multiprocessing.process.current_process()._config.get("tempdir"),  # type: ignore[attr-defined]
    )
    probe.observe("cpu")

    assert multiprocessing.active_children() == []
    assert [*Path(memory.FOLDER).glob(f"torch_{os.getpid()}_*"), *tmp_path.iterdir()] == []
    assert before == (
        torch.get_rng_state().tolist(),
        signal.getsignal(signal.SIGCHLD),
        threading.active_count(),
        torch.get_num_threads(),
        multiprocessing.process.current_process()._config.get("tempdir"),  # type: ignore[attr-defined]
    )


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


KILLED: Final = """
import time
from probes.dataloader.datasets import Calls
from probes.dataloader.running import iterating, loader
import os
def sample(index):
    if index:
        time.sleep(600)
    return os.getpid()
with iterating(loader(Calls(2, sample), 1, batch_size=None)) as batches:
    print(next(batches), flush=True)
    time.sleep(600)
"""


def test_workers_die_with_a_probe_that_is_killed() -> None:
    """At once, though they are busy: torch itself looks every five seconds, between samples."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert is_running(worker)
        process.kill()
    deadline = time.monotonic() + 4
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.01)

    assert not is_running(worker)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in torch's own end
def test_an_interrupted_start_leaves_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the host refuses the second worker, the first is ended, and the error goes up."""
    fork, count = os.fork, iter(range(9))

    def refusing() -> int:
        if next(count):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", refusing)
    with pytest.raises(BlockingIOError):
        probe.observe("cpu")

    assert multiprocessing.active_children() == []


# ---- shared memory and its absence, for real

OBSERVED: Final = """
from probes.dataloader import probe
for finding in probe.judge(probe.observe("cpu")):
    print(finding.id.partition(".")[2], finding.status, finding.message)
"""


def statuses(mount: str, folder: Path) -> dict[str, str]:
    """Status and message of each check in a mount namespace of its own."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{mount} && exec {sys.executable} -c '{OBSERVED}'"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if "not permitted" in done.stderr or "denied" in done.stderr:
        pytest.skip("this user may not mount a file system of its own")
    lines = (line.split(" ", 1) for line in done.stdout.splitlines())
    return dict(lines)


@pytest.mark.parametrize(
    ("options", "status"),
    [("size=1m", "error"), ("size=64m", "warn"), ("size=300m", "pass"), ("size=300m,ro", "error")],
)
def test_a_shared_memory_of_that_size(options: str, status: str, tmp_path: Path) -> None:
    """On a file system made for it; the other checks pass, or are skipped with the reason."""
    found = statuses(f"mount -t tmpfs -o {options} tmpfs /dev/shm", tmp_path)
    shared = found.pop("shared_memory")

    assert shared.startswith(status), shared
    wanted = "skip no worker can hand a batch over" if "ro" in options else "pass"
    assert {name for name, each in found.items() if not each.startswith(wanted)} <= {
        *OF_DEVICES,
        "samplers",
    }


def test_a_full_shared_memory(tmp_path: Path) -> None:
    """No worker is started, and nothing is written."""
    mount = "mount -t tmpfs -o size=300m tmpfs /dev/shm && truncate -s 1 /dev/shm/x"
    found = statuses(f"{mount} && fallocate -l 299900k /dev/shm/y; true", tmp_path)

    assert found["shared_memory"].startswith("warn")
    assert "is full" in found["batches"] or found["batches"].startswith("pass")


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers would wait for ever there: torch hands descriptors over by a socket in it."""

    def missing() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", missing)
    observation = probe.observe("cpu")

    assert "temporary folder" in found("shared_memory", observation).message
    assert found("shared_memory", observation).status == "error"
    assert found("batches", observation).status == "skip"
    assert found("samplers", observation).status == "pass"


@pytest.mark.parametrize(
    ("system", "problem"),
    [
        ({"f_blocks": 0}, ""),
        ({"f_flag": os.ST_RDONLY}, "read-only"),
        ({"access": False}, "may not write"),
    ],
)
def test_what_the_system_tells(
    system: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without a size of its own is not a full one."""
    told = {"f_flag": 0, "f_blocks": 10, "f_frsize": 4096, "f_bavail": 5, **system}
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**told))
    monkeypatch.setattr(os, "access", lambda *_: system.get("access", True))
    seen = memory.read()

    assert problem in seen.problem
    assert bool(problem) == bool(seen.problem)
    if not problem:
        assert seen == SharedMemory()
        assert seen.has_room(10**15)


# ---- devices


def test_pinned_batches_are_compared() -> None:
    """On the host too, where nothing is pinned: a batch that is wrong is seen."""
    found = [each for trial in pinned.pinned("cpu") for each in trial.run("cpu")]
    with Corrupt("stack", nan):
        wrong = [each for trial in pinned.pinned("cpu") for each in trial.run("cpu")]

    assert all(each.holds for each in found)
    assert {each.operation for each in found} > {"nested, pinned", "two workers, pinned (batches)"}
    assert not any(each.holds for each in wrong if "on the device" in each.operation)


def test_a_device_that_takes_a_fork_is_seen() -> None:
    """The host does: there the worker's tensor arrives, and nothing is refused."""
    (comparison,) = pinned._forked_use("cpu")

    assert not comparison.holds
    assert "nothing" in comparison.problem


def test_why_nothing_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A back-end without pinned memory says so; CUDA must have it."""

    def refuse(_tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no allocator here")

    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)

    assert "CPU is the host" in pinned.why_not_pinned("cpu")
    assert pinned.why_not_pinned("xpu:0") == "no allocator here"
    assert pinned.why_not_pinned("cuda:0") == ""
    assert pinned.why_not_forked("cuda:0") == ""
    assert "CUDA alone" in pinned.why_not_forked("xpu:0")


def test_the_current_device_is_the_probe_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the thread that pins would start another GPU."""
    used: list[torch.device] = []

    class Use:
        def __init__(self, device: torch.device) -> None:
            used.append(device)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(torch.cuda, "device", Use)
    with pinned._current("cuda:3"):
        pass
    with pinned._current("cpu"):
        pass

    assert used == [torch.device("cuda:3")]


# ---- references


def test_rows_of_the_table_differ() -> None:
    """Else a batch in another order would look right."""
    rows = [row.tobytes() for row in table(64)]

    assert len(set(rows)) == 64


def test_the_patterns_of_large_batches_differ() -> None:
    """From place to place, and from batch to batch."""
    first, second = memory._pattern(0), memory._pattern(1)

    assert len(set(first[:4096].tolist())) == 4096
    assert (first[1:] != second[1:]).all()
    assert first.nbytes == memory.BATCH_BYTES


def test_a_trial_s_own_start_is_called() -> None:
    """After the worker is bound to this process."""
    dataset = Places(2)
    batches = running.gathered(
        dataset, 1, batch_size=None, worker_init_fn=lambda _: os.environ.update(STARTED="1")
    )
    seen = running.gathered(Calls(1, lambda _: os.getppid()), 1, batch_size=None)

    assert len(batches) == 2
    assert seen == [os.getpid()]
    assert "STARTED" not in os.environ


def test_an_old_recording_can_be_judged() -> None:
    """A stored observation is judged as it was when it was made."""
    stored = probe.Observation.model_validate_json(sound().model_dump_json())

    assert tripped(probe.judge(stored)) == set()

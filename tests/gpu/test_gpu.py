"""The product on a real accelerator: no false alarm, its budgets, faults in real kernels.

`make test-gpu` runs it in some six minutes and ends with a table for a bug report. Skipped by
name where torch can use no accelerator.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from probes.catalog import BY_NAME, CATALOG
from probes.contract import MIB, PROFILES
from tests.gpu import board
from tests.validator.runs import marked, ran, spec, write
from validator.engine.plan import Plan
from validator.report import Report
from validator.settings import loading

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(240)]

Table = list[tuple[str, str, str]]

#: Budgets of the design: over a bare process with a first kernel, and beyond the context.
WARM: Final = 1.5
FIRST_RUN: Final = 2.0
QUICK_BYTES: Final = 256 * MIB

#: The emulator has neither kernels that are slow at first nor memory of a driver's own.
REAL: Final = board.KIND != "fake"

#: How often, and beside whom.
ALONE: Final = 4
BESIDE: Final = 3

#: Neighbours, in words.
NEIGHBOURS: Final = {"busy": "computes", "holds": "holds the memory"}

#: A sample of the faults, each in a kernel of the device: forward, backward, copies, processes.
SAMPLE: Final = (
    *("kernel.mm.one_bit", "kernel.softmax.scaled", "kernel.copy.one_bit", "kernel.raises"),
    *("kernel.embedding_dense_backward.one_bit", "kernel.softmax_backward_data.scaled"),
    *("kernel.native_batch_norm.scaled", "kernel.bernoulli.zeros", "kernel.hangs"),
    *("mm.one_a_warp", "backward.mul.one_bit.float32", "layer.dropout_alive_in_eval"),
    *("process.hangs_holding_the_lock", "process.sigsegv", "host_to_device.one_bit"),
)


@dataclasses.dataclass(frozen=True)
class Checked:
    """One check: its report, exit code and wall time in seconds."""

    report: Report
    code: int
    wall_s: float


def check(*argv: str, **environment: str) -> Checked:
    """Run `check` on the first accelerator."""
    began_s = time.monotonic()
    done = board.command(
        *("check", "--device", board.DEVICE, "--timings", "--output", "json", *argv),
        environment=environment,
        timeout=200,  # the profile deep at its first run compiles for minutes
    )
    wall_s = time.monotonic() - began_s
    assert done.stdout, done.stderr
    return Checked(Report.model_validate_json(done.stdout), done.returncode, wall_s)


@cache
def alone() -> tuple[Checked, ...]:
    """Checks with nobody else on the device, in a row."""
    return tuple(check() for _ in range(ALONE))


def alarms(checked: Checked) -> list[str]:
    """What a healthy device must not be told: failures, warnings, errors."""
    results = checked.report.results
    bad = [each for each in results if each.status in {"fail", "warn", "error"}]
    return [f"{each.probe} on {each.device}: {each.summary}" for each in bad]


def test_checks_in_a_row_raise_no_alarm(table: Table) -> None:
    """Every probe passes each time."""
    found = [alarms(each) for each in alone()]

    assert found == [[]] * ALONE
    assert {each.code for each in alone()} == {0}
    table.append(("checks in a row without an alarm", f"{ALONE} of {ALONE}", ""))


@pytest.mark.parametrize("what", NEIGHBOURS)
def test_beside_others_there_is_no_alarm(what: str, table: Table) -> None:
    """A process that keeps the device busy, and one that keeps its memory."""
    with board.neighbour(what):
        checked = [check() for _ in range(BESIDE)]

    assert [alarms(each) for each in checked] == [[]] * BESIDE
    assert {each.code for each in checked} == {0}
    median_s = statistics.median(each.wall_s for each in checked)
    measured = f"{BESIDE} of {BESIDE}, {median_s:.1f} s"
    table.append((f"without an alarm beside one that {NEIGHBOURS[what]}", measured, ""))


def test_a_quick_check_is_quick(table: Table) -> None:
    """Warm, over a bare process that imports torch and runs a first kernel."""
    bare_s = statistics.median(board.first_kernel_s() for _ in range(3))
    warm_s = statistics.median(each.wall_s for each in alone()[1:])
    table.append(("bare process with a first kernel", f"{bare_s:.2f} s", ""))
    table.append(("quick check, warm", f"{warm_s:.2f} s, {warm_s / bare_s:.2f}x", f"<= {WARM}x"))
    slowest = max(alone()[1:], key=lambda each: each.wall_s).report
    for step in slowest.timings:
        what = f"  {step.name} {step.device}".rstrip()
        table.append((what, f"{step.duration_s:.2f} s", ""))
    for result in slowest.results:
        longest = sorted(result.timings, key=lambda part: -part.duration_s)[:3]
        parts = ", ".join(f"{part.name} {part.duration_s:.2f}" for part in longest)
        table.append((f"  {result.probe}", f"{result.duration_s:.2f} s", parts))

    assert warm_s / bare_s <= WARM or not REAL


def test_a_first_run_is_not_much_slower(table: Table, tmp_path: Path) -> None:
    """Without any cache that could be written: a read-only root and no home."""
    nowhere = str(tmp_path / "nothing" / "there")
    tmp_path.chmod(0o555)
    caches = ("HOME", "XDG_CACHE_HOME", "PYTORCH_KERNEL_CACHE_PATH", "CUDA_CACHE_PATH")
    first = check(**dict.fromkeys(caches, nowhere))
    bare_s = statistics.median(board.first_kernel_s() for _ in range(2))
    table.append(
        (
            "quick check, no cache",
            f"{first.wall_s:.2f} s, {first.wall_s / bare_s:.2f}x",
            f"<= {FIRST_RUN}x",
        )
    )

    assert alarms(first) == []
    assert first.wall_s / bare_s <= FIRST_RUN or not REAL


def test_memory_is_what_the_catalogue_says(table: Table) -> None:
    """Of each probe beyond the context, and for the quick profile within its budget."""
    found: dict[str, int] = {}
    for checked in alone():
        for result in checked.report.results:
            if result.memory_bytes is not None:
                found[result.probe] = max(found.get(result.probe, 0), result.memory_bytes)
    if not found:
        pytest.skip("this back-end counts no memory")
    for probe, taken in found.items():
        told = BY_NAME[probe].memory_bytes // MIB
        table.append((f"memory of {probe}", f"{taken / MIB:.0f} MiB", f"catalogue: {told} MiB"))
    over = {probe: taken for probe, taken in found.items() if taken > BY_NAME[probe].memory_bytes}

    assert over == {}
    assert max(found.values()) <= QUICK_BYTES


def test_faults_in_real_kernels_are_caught(table: Table) -> None:
    """A sample of each kind, forward and backward, at the device's own key too."""
    names = [part for name in SAMPLE for part in ("--fault", name)]
    done = board.command(
        *("selftest", "--device", board.DEVICE, "--timeout", "100", "--output", "json", *names),
        timeout=130,
    )
    assert done.stdout, done.stderr
    selftest: dict[str, Any] = json.loads(done.stdout)
    trials = [each for each in selftest["trials"] if each["device"] == board.DEVICE]
    survived = [each["fault"] for each in trials if each["verdict"] == "survived"]
    caught = sum(each["verdict"] == "caught" for each in trials)
    table.append(
        ("faults caught", f"{caught} of {len(trials)}, {selftest['duration_s']:.0f} s", "all")
    )

    assert survived == []
    assert selftest["control"] == []
    assert caught >= len(SAMPLE) - 3  # a back-end may name an operation otherwise


#: Writes 4 TiB beyond a tensor: an illegal address (Xid 31), after which the context is lost.
OUT_OF_BOUNDS: Final = """
    target = torch.zeros(4, dtype=torch.int32, device=device)
    compile_kernel = getattr(torch.cuda, "_compile_kernel", None)
    if compile_kernel is None:  # an assertion of the device, which is as sticky
        target[torch.tensor([1 << 40], device=device)].sum().item()
    else:
        source = 'extern "C" __global__ void poke(int *at) { at[1LL << 40] = 1; }'
        compile_kernel(source, "poke")((1, 1, 1), (1, 1, 1), (target,))
    torch.cuda.synchronize()
"""


@pytest.mark.skipif(board.KIND != "cuda", reason="a kernel of CUDA's")
def test_a_lost_context_costs_its_probe_alone(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next process on the device is well."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), board.python_path())))
    for name, body in (("earlier", ""), ("sicken", OUT_OF_BOUNDS), ("later", "")):
        write(tmp_path, name, body)
    specs = [dataclasses.replace(spec(n), timeout_s=60) for n in ("earlier", "sicken", "later")]
    settings = loading.load(flags={"run": {"devices": [board.DEVICE]}})
    found = ran(Plan(tuple(specs), "quick", "cli"), settings)

    assert found.of("sicken").status == "fail"
    assert "outside its buffers" in found.of("sicken").summary
    assert (found.of("earlier").status, found.of("later").status) == ("pass", "pass")
    table.append(("after a lost context the next probe", "passes", ""))


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A daemon that runs the quick probes every few seconds, and its address."""
    socket = folder / "api.sock"
    config = folder / "config.yaml"
    quick = [each.name for each in CATALOG if not each.is_heavy]
    schedule = "".join(f"  {name}: {{interval: 5s, jitter: 0s}}\n" for name in quick)
    port = 18790
    config.write_text(
        f"schedule:\n{schedule}run: {{devices: ['{board.DEVICE}']}}\n"
        f"web: {{listen_address: ['127.0.0.1:{port}'], unix_socket: {socket}}}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "validator", "serve", "--config.file", str(config)],
        cwd=board.ROOT,
        env={**os.environ, "PYTHONPATH": board.python_path()},
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def answer(url: str) -> str:
    """The body of an answer; empty where there is none yet."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own address
            body: bytes = response.read()
            return body.decode()
    except OSError:
        return ""


def test_the_daemon_for_two_rounds(table: Table, tmp_path: Path) -> None:
    """Ready, all series good, and nothing of ours on the device between runs."""
    with daemon(tmp_path) as (process, url):
        runs: list[str] = []
        deadline = time.monotonic() + 90
        while len(runs) < 2:
            assert time.monotonic() < deadline, "no second run"
            assert process.poll() is None
            text = answer(f"{url}/api/v1/report")
            run = json.loads(text)["run_id"] if text else ""
            runs += [run] if run and run not in runs else []
            time.sleep(0.2)
        between = board.use()
        ready, metrics = answer(f"{url}/readyz"), answer(f"{url}/metrics")
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    found = re.findall(rf'probe_success{{[^}}]*device="{board.DEVICE}"[^}}]*}} (\S+)', metrics)

    assert ready.startswith("pass")
    assert {float(value) for value in found} == {1.0}
    assert between is None or process.pid not in between.pids
    rss_kib = int(status.partition("VmRSS:")[2].split()[0])
    table.append(("daemon, two rounds", f"{rss_kib / 1024:.1f} MiB", "<= 60 MiB"))


@pytest.mark.parametrize(("profile", "budget_s"), [("standard", 20), ("deep", 60)])
def test_a_profile_is_recorded(table: Table, profile: str, budget_s: int) -> None:
    """A file for tests/golden/reports/, with the identity of the node replaced."""
    folder = board.ROOT / "build" / "gpu"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{profile}.json"
    checked = check("--profile", profile, "--record", str(file))
    report = Report.model_validate_json(file.read_text(encoding="utf-8"))

    assert [text for text in alarms(checked) if "unproven" not in text] == []
    assert {each.probe for each in report.results} >= {
        each.name
        for each in CATALOG
        if each.needs == "device" and PROFILES.index(each.profile) <= PROFILES.index(profile)
    }
    table.append((profile, f"{checked.wall_s:.1f} s", f"<= {budget_s} s"))
    table.append((f"recording of {profile}", str(file.relative_to(board.ROOT)), ""))


def test_nothing_is_left_on_the_device(table: Table) -> None:
    """Run last: memory is what it was, and no process of ours is there."""
    assert marked() == []
    left = board.use()
    if left is None:
        pytest.skip("no NVML: nobody tells what is left")
    table.append(("left on the device", f"{left.memory_bytes / MIB:.0f} MiB", ""))

    assert left.pids == ()

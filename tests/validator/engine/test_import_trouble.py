"""An import that others cut off or hold up tells nothing of torch; one that torch holds up does."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from probes.catalog import TORCH_VERSION
from tests.validator.runs import PLAN, ran
from validator.engine import host_limits, pipes, spawn
from validator.engine.plan import Event
from validator.engine.stall import stall
from validator.settings import loading
from validator.settings.model import Settings

ROOT: Final = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.slow
WITH_TORCH = replace(PLAN, specs=(TORCH_VERSION, *PLAN.specs))


def quick_import() -> Settings:
    """Settings with a short deadline for the import."""
    return loading.load(flags={"probes": {"torch_version": {"timeout": 1.0}}})


@pytest.mark.torch
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_worker_that_is_killed_while_importing_is_tried_once_more(
    folder: Path, name: str
) -> None:
    """Killed by others the first time, the second import is the one that is judged."""
    (folder / "torch.py").write_text(
        "import os, signal\n"
        f"if not os.path.exists('{folder}/killed'):\n"
        f"    open('{folder}/killed', 'w').close()\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
        "raise OSError('its own end')"
    )
    events: list[Event] = []

    seen = ran(WITH_TORCH, on_event=events.append)

    told = seen.of("torch_version")
    assert (told.status, told.reason) == ("fail", "import_failed")
    assert "its own end" in told.summary
    assert [event.text for event in events if event.kind == "restarted"] == [
        f"the worker died by {name}"
    ]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_worker_that_is_killed_again_is_an_error(folder: Path, name: str) -> None:
    """Whoever kills it, torch is not to blame, and the rest points to the one finding."""
    (folder / "torch.py").write_text(
        f"import os, signal; print('so far'); os.kill(os.getpid(), signal.{name})"
    )

    seen = ran(WITH_TORCH)

    told = seen.of("torch_version")
    assert (told.status, told.reason) == ("error", "internal_error")
    assert told.summary == f"importing torch, twice: the worker died by {name}"
    assert told.findings[0].action == "fix_config"
    assert {(r.status, r.reason) for r in seen.report.results[1:]} == {("skip", "dependency")}
    assert "torch_version.imports" in seen.of("later").summary
    assert seen.report.status == "error"


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """No limit of memory is in force here."""
    kinds = tuple(kind._replace(limits=list) for kind in host_limits._KINDS)
    monkeypatch.setattr(host_limits, "_KINDS", kinds)


SHORT = ["MemoryError()", "RuntimeError('std::bad_alloc')", "OSError(12, 'Cannot allocate memory')"]


@pytest.mark.torch
@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("error", SHORT)
def test_an_import_that_found_no_memory_is_tried_once_more(folder: Path, error: str) -> None:
    """The host may have been full for a moment, or the worker under a limit of its own."""
    (folder / "torch.py").write_text(
        "import os\n"
        f"if not os.path.exists('{folder}/short'):\n"
        f"    open('{folder}/short', 'w').close()\n"
        f"    raise {error}\n"
        "raise OSError('its own end')"
    )
    events: list[Event] = []

    seen = ran(WITH_TORCH, on_event=events.append)

    told = seen.of("torch_version")
    assert (told.status, told.reason) == ("fail", "import_failed")
    assert "its own end" in told.summary
    restarted = [event.text for event in events if event.kind == "restarted"]
    assert len(restarted) == 1
    assert restarted[0].startswith(f"importing torch raised {error.partition('(')[0]}")


@pytest.mark.torch
@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize(
    ("error", "times"), [("MemoryError('torch')", 2), ("OSError('its own end')", 1)]
)
def test_an_import_that_fails_again_is_a_fail(folder: Path, error: str, times: int) -> None:
    """Without a limit that explains it; what does not tell of memory is not tried twice."""
    (folder / "torch.py").write_text(
        f"open('{folder}/times', 'a').write('.')\nraise {error}", encoding="utf-8"
    )

    seen = ran(WITH_TORCH)

    told = seen.of("torch_version")
    assert (told.status, told.reason) == ("fail", "import_failed")
    assert (folder / "times").read_text() == "." * times


SLOW = {
    "a FIFO that nobody writes to": (
        "import os; os.mkfifo('{folder}/fifo'); open('{folder}/fifo').read()",
        "openat",
    ),
    "an open file that gives nothing": (
        "import os; os.mkfifo('{folder}/fifo')\nos.read(os.open('{folder}/fifo', os.O_RDWR), 1)",
        "read of {folder}/f",
    ),
    "a wait in the standard library": (
        "import threading; threading.Event().wait(600)",
        "threading.py",
    ),
}


@pytest.mark.torch
@pytest.mark.parametrize(("code", "where"), SLOW.values(), ids=SLOW)
def test_an_import_that_files_hold_up_is_an_error(folder: Path, code: str, where: str) -> None:
    """It says where the import stands, and which setting gives it longer."""
    (folder / "torch.py").write_text(code.replace("{folder}", str(folder)))

    seen = ran(WITH_TORCH, quick_import())

    told = seen.of("torch_version")
    assert told.status == "error", told
    assert told.summary.startswith("importing torch did not end within 1 s: it stands ")
    assert where.replace("{folder}", str(folder)) in told.summary
    assert "probes.torch_version.timeout" in told.findings[0].hint
    assert seen.report.status == "error"


def traceback(*frames: str) -> str:
    """A log that ends with faulthandler's traceback, innermost frame first."""
    lines = "".join(f"  File {frame}\n" for frame in frames)
    return f"a warning\nCurrent thread 0x1 (most recent call first):\n{lines}"


TORCH = '"/venv/site-packages/torch/__init__.py", line 9 in <module>'
LOADER = '"<frozen importlib._bootstrap_external>", line 1233 in create_module'
READER = '"<frozen importlib._bootstrap_external>", line 1131 in get_data'
CTYPES = '"/usr/lib/python3.11/ctypes/__init__.py", line 376 in __init__'
OURS = '"/app/probes/worker/main.py", line 60 in _import_torch'

STALLS = {
    "in torch's Python code": ("", (TORCH, OURS), True),
    "in a back-end's": ("", ('"/venv/torch_npu/__init__.py", line 3 in f', TORCH, OURS), True),
    "in a library of torch's that starts": ("", (LOADER, TORCH, OURS), True),
    "in a library that torch opens by ctypes": ("", (CTYPES, TORCH, OURS), True),
    "in the driver": ("ioctl of /dev/nvidia-uvm", (OURS,), True),
    "reading a module": ("read of /nfs/torch/x.pyc", (READER, TORCH, OURS), False),
    "reading, and no longer when looked at": ("", (READER, TORCH, OURS), False),
    "paging a library in": (
        "an uninterruptible wait (folio_wait_bit_common)",
        (LOADER, TORCH, OURS),
        False,
    ),
    "in a child's end": ("", ('"/usr/lib/python3.11/subprocess.py", line 2 in wait', TORCH), False),
    "in our code": ("", (OURS,), False),
    "without a traceback": ("", (), False),
}


@pytest.mark.torch
def test_a_deep_traceback_still_tells_where_it_stands(folder: Path) -> None:
    """The innermost frames are printed first, and more follows than a log's tail holds."""
    (folder / "torch.py").write_text(
        "import time\ndef deep(left):\n    deep(left - 1) if left else time.sleep(600)\ndeep(90)"
    )

    seen = ran(WITH_TORCH, quick_import())

    told = seen.of("torch_version")
    assert (told.status, told.reason) == ("fail", "import_failed")
    assert told.summary.endswith(f"it stands at {folder}/torch.py:3 in deep")
    assert len(told.log_tail.encode()) <= pipes.TAIL_BYTES


@pytest.mark.parametrize(("kernel", "frames", "blames"), STALLS.values(), ids=STALLS)
def test_a_stall_blames_torch_only_in_its_own_code(
    kernel: str,
    frames: tuple[str, ...],
    blames: bool,  # noqa: FBT001 - a parameter of the table above
) -> None:
    """What the kernel says goes before the Python line; where nothing tells, torch is spared."""
    seen = stall(kernel, traceback(*frames) if frames else "nothing printed")

    assert seen.blames_torch is blames
    assert kernel in seen.text


def test_the_worker_is_pointed_at_the_folder_of_our_packages() -> None:
    """In an image nothing of ours is installed: what the boot line inserts has to be right."""
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-E",
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1]); import probes; print(probes.__file__)",
            str(spawn._ROOT),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert Path(done.stdout.strip()) == ROOT / "probes" / "__init__.py", done.stderr


def test_a_working_directory_that_was_removed_is_nobodys_fault(tmp_path: Path) -> None:
    """The worker runs elsewhere: MKL would end the import of torch there, a wrong `fail`."""
    gone = tmp_path / "gone"
    gone.mkdir()
    program = (
        f"import os, sys; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from validator.engine.spawn import start_worker\n"
        "worker = start_worker()\n"
        "print(os.readlink(f'/proc/{worker.process.pid}/cwd'))\n"
        "worker.kill()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ended.returncode, ended.stdout) == (0, "/\n"), ended.stderr


@pytest.mark.parametrize("letter", ["\\U0001f600", "\\udc80", "\\x01"])
def test_an_error_of_many_bytes_is_told(folder: Path, letter: str) -> None:
    """What torch raises may be long, in letters of four bytes or in control characters."""
    (folder / "torch.py").write_text(f"raise OSError('its own end ' + 9000 * '{letter}')")

    seen = ran(WITH_TORCH)

    told = seen.of("torch_version")
    assert (told.status, told.reason) == ("fail", "import_failed")
    assert "raised OSError: its own end" in told.summary

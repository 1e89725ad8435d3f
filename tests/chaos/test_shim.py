"""The preloaded library fails the call that it is told to, in the process that it is meant for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.shim import Control, NoCompilerError, build

_PIPES = """
import os
for _ in range(3):
    try:
        os.pipe()
        print("made")
    except OSError as error:
        print(error.errno)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, built once; skipped where there is no compiler."""
    try:
        return build(tmp_path_factory.mktemp("shim"))
    except NoCompilerError as error:
        pytest.skip(str(error))


def told(library: Path, program: str, *arguments: str, **chaos: str) -> list[str]:
    """What a program prints under the library, a line each."""
    done = subprocess.run(
        [sys.executable, "-c", program, "serve", *arguments],
        env={**os.environ, "LD_PRELOAD": str(library), **chaos},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.splitlines()


def test_one_call_fails_and_no_other(library: Path, tmp_path: Path) -> None:
    """The second of three, with the errno that was asked for; all are in the trace."""
    trace = tmp_path / "trace"
    seen = told(library, _PIPES, CHAOS_FAIL="pipe2:2:24", CHAOS_TRACE=str(trace))
    calls = [line for line in trace.read_text().splitlines() if line.startswith("pipe2 ")]

    assert seen == ["made", "24", "made"]
    assert [line.split()[:2] for line in calls] == [["pipe2", str(n)] for n in (1, 2, 3)]
    assert ["FAILED" in line for line in calls] == [False, True, False]
    assert {line.partition("\t")[2] for line in calls} == {"<string>:5"}


def test_only_the_process_that_is_meant(library: Path) -> None:
    """Neither another program nor a child of it, whose calls would be counted twice."""
    in_child = f"import os\nif os.fork():\n    os.wait()\nelse:\n{_indented(_PIPES)}"
    other = told(library, _PIPES, CHAOS_FAIL="pipe2:2:24", CHAOS_PROGRAM="another")
    child = told(library, in_child, CHAOS_FAIL="pipe2:2:24")

    assert other == child == ["made"] * 3


def test_calls_count_from_the_file_that_is_named(library: Path, tmp_path: Path) -> None:
    """So that the interpreter's own start is left out."""
    mark = tmp_path / "mark"
    mark.touch()
    program = f"import os\nos.pipe()\nopen({str(mark)!r}).close()\n{_PIPES}"

    assert told(library, program, CHAOS_FAIL="pipe2:1:24", CHAOS_FROM="/mark")[0] == "24"


_CALLS = {
    "a process": ("vfork:1:11", "import subprocess; subprocess.run(['true'])"),
    "a pidfd": ("pidfd_open:1:24", "os.close(os.pidfd_open(os.getpid()))"),
    "a file": ("open64:1:13", "os.close(os.open('.', os.O_RDONLY))"),
    "an entry": ("readdir64:1:5", "os.listdir('.')"),
    "a socket": ("socket:1:24", "import socket; socket.socket().close()"),
}


@pytest.mark.parametrize(("fail", "call"), _CALLS.values(), ids=_CALLS)
def test_calls_of_python_are_among_those(
    library: Path, tmp_path: Path, fail: str, call: str
) -> None:
    """Each goes by the name that libc has for it; without the failure it works."""
    mark = tmp_path / "mark"
    mark.touch()
    program = (
        f"import os, socket, subprocess\nos.stat({str(mark)!r})\n"
        f"try:\n    {call}\n    print('fine')\nexcept OSError as error:\n    print(error.errno)\n"
    )
    failed = told(library, program, CHAOS_FAIL=fail, CHAOS_FROM="/mark")
    fine = told(library, program, CHAOS_TRACE=str(tmp_path / "trace"), CHAOS_FROM="/mark")

    assert (failed, fine) == ([fail.rpartition(":")[2]], ["fine"])


@pytest.fixture
def clocks(library: Path, tmp_path: Path) -> Iterator[tuple[Control, "subprocess.Popen[str]"]]:
    """A control, and a process under it that tells its clocks and /proc for each line it gets."""
    control = Control(tmp_path / "control")
    program = (
        "import sys, time\n"
        "for _ in sys.stdin:\n"
        "    try:\n        open('/proc/self/stat').close(); seen = 1\n"
        "    except PermissionError:\n        seen = 0\n"
        "    print(time.time(), time.monotonic(), seen, flush=True)\n"
    )
    pipe = subprocess.PIPE
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "CHAOS_CONTROL": str(control.path),
    }
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment, text=True, stdin=pipe, stdout=pipe) as one:
        yield control, one
        one.kill()


def test_clocks_and_proc_change_while_it_runs(
    clocks: tuple[Control, "subprocess.Popen[str]"],
) -> None:
    """Each of the three, and back."""
    control, process = clocks

    def look() -> tuple[float, float, bool]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        wall, monotonic, seen = process.stdout.readline().split()
        return float(wall), float(monotonic), seen == "1"

    first = look()
    control.set_wall_clock(3600)
    set_ahead = look()
    control.set_wall_clock(0)
    control.pass_time(100)
    control.hide_proc(True)
    paused = look()
    control.hide_proc(False)
    last = look()

    assert 3600 <= set_ahead[0] - first[0] < 3660
    assert 0 <= set_ahead[1] - first[1] < 60
    assert 100 <= paused[0] - first[0] < 160
    assert 100 <= paused[1] - first[1] < 160
    assert [one[2] for one in (first, set_ahead, paused, last)] == [True, True, False, True]


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())

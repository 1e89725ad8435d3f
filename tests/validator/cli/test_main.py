"""How the command starts: the early worker, internal errors, no torch where none is needed."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.validator.cli.fakes import Call, Runner, Worker, command
from validator import __version__
from validator.cli import early
from validator.engine.spawn import CannotStartError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def test_the_early_worker_is_handed_over(call: Call, workers: list[Worker]) -> None:
    """The run gets the worker that was started first, and nobody else ends it."""
    call("check")

    assert [Runner.worker] == workers
    assert not workers[0].killed


@pytest.mark.parametrize("argv", [["list"], ["schema"], ["check", "--help"], ["--version"]])
def test_no_worker_where_nothing_runs(
    argv: list[str], call: Call, workers: list[Worker], capsys: pytest.CaptureFixture[str]
) -> None:
    """Importing torch for a help text would be waste."""
    assert call(*argv) == 0
    assert workers == []
    assert capsys.readouterr().out


def test_a_worker_that_cannot_start_is_the_run_s_matter(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run tries again, and reports it."""

    def refuse(**_: bool) -> None:
        raise CannotStartError("no memory")

    monkeypatch.setattr(early, "start_worker", refuse)

    assert call("check") == 0
    assert Runner.seen is not None
    assert Runner.worker is None


def test_an_internal_error_is_one_line(call: Call, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, never the 1 that drains a node; the traceback only when asked for."""
    code = call("check", answer=RuntimeError("ours\nand more"))
    told = capfd.readouterr().err
    call("check", "--log.level", "debug", answer=RuntimeError("ours"))
    debugged = capfd.readouterr().err

    assert code == 2
    assert told.startswith("gpu-validator: internal error: RuntimeError: ours and more (a bug")
    assert told.count("\n") == 1
    assert "Traceback" in debugged
    assert "event=started" in debugged


def test_what_a_library_tells_again_is_what_it_was(
    call: Call, capfd: pytest.CaptureFixture[str]
) -> None:
    """Refused memory is no bug of ours where asyncio makes a RuntimeError of it."""
    again = RuntimeError("[Errno 12] Cannot allocate memory")
    again.__context__ = OSError(errno.ENOMEM, "Cannot allocate memory")
    code = call("check", answer=again)
    told = capfd.readouterr().err

    assert code == 2
    assert "[Errno 12] Cannot allocate memory" in told
    assert "internal error" not in told


def test_a_failure_of_the_interpreter_is_no_bug_of_ours(
    call: Call, capfd: pytest.CaptureFixture[str]
) -> None:
    """Libraries in C end so where memory is refused to them."""
    code = call("check", answer=SystemError("error return without exception set"))
    told = capfd.readouterr().err

    assert code == 2
    assert "the interpreter failed, as where memory lacks" in told
    assert "internal error" not in told


def test_as_a_module_it_is_guarded_too(tmp_path: Path) -> None:
    """A file of ours that cannot be read is no sick node."""
    (tmp_path / "validator").mkdir()
    for name in ("gpu_env_validator.py", "validator/__init__.py", "validator/__main__.py"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    ended = subprocess.run(
        [sys.executable, "-I", "-c", _AS_A_MODULE, str(tmp_path), "check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2
    assert ended.stderr.startswith("gpu-validator: error: it could not start: ")


_AS_A_MODULE = """
import runpy, sys
sys.path[:] = [sys.argv.pop(1), *(path for path in sys.path if "site-packages" not in path)]
sys.meta_path[:] = [one for one in sys.meta_path if "editable" not in repr(one)]
runpy.run_module("validator", run_name="__main__", alter_sys=True)
"""


def test_debug_from_the_environment(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable works as the flag does."""
    monkeypatch.setenv("GPU_VALIDATOR_LOG__LEVEL", "debug")
    call("check", answer=RuntimeError("ours"))

    assert "Traceback" in capsys.readouterr().err


def test_version() -> None:
    """Name and version, from a real process."""
    ended = command("--version")

    assert (ended.returncode, ended.stdout) == (0, f"gpu-validator {__version__}\n")


@pytest.mark.parametrize(
    "argv",
    [
        ["list"],
        ["list", "--output", "json"],
        ["explain", "cuda_available"],
        ["explain", "cuda_available.kernel"],
        ["schema"],
    ],
)
def test_no_torch_needed(argv: list[str]) -> None:
    """What the probes promise can be read on a laptop without torch, NumPy or a GPU."""
    program = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'pynvml'): sys.modules[name] = None  # import raises\n"
        f"sys.argv = ['gpu-validator', *{argv}]\n"
        "from validator.cli.main import main\n"
        "sys.exit(main())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 0, ended.stderr
    assert "cuda_available" in ended.stdout or argv == ["schema"]
    if argv[0] == "schema" or "json" in argv:
        json.loads(ended.stdout)


def test_what_few_need_is_imported_for_them_alone() -> None:
    """The quick profile's budget: nothing of --watch and of complaints."""
    program = (
        "import sys; sys.argv = ['gpu-validator', 'check', '--config.check']\n"
        "from validator.cli.main import main; main()\n"
        "print(*(name for name in sys.modules if name.startswith('validator.')))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    imported = set(ended.stdout.split())

    assert "validator.cli.one_run" in imported
    assert not imported & {
        *("validator.cli.watching", "validator.cli.hints", "validator.cli.progress"),
        *("validator.render.changes", "validator.cli.burn", "validator.selftest"),
    }


def test_nothing_slow_before_the_worker() -> None:
    """The module that starts the worker imports the standard library alone."""
    program = (
        "import sys; before = set(sys.modules); import validator.cli.main; "
        "print(*set(sys.modules) - before)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    imported = set(ended.stdout.split())
    packages = {name.partition(".")[0] for name in imported}

    assert "validator" in imported
    assert packages - set(sys.stdlib_module_names) == {"validator", "probes"}
    # A class that `dataclasses` makes costs the import of `inspect`, while nothing else runs yet.
    assert not packages & {"dataclasses", "inspect", "ast", "json", "asyncio", "argparse"}
    # What both sides need, and imports the standard library alone.
    assert {name for name in imported if name.startswith("probes")} == {
        *("probes", "probes.legible", "probes.pidfd")
    }


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (ModuleNotFoundError("No module named 'probes.telemetry.spec'"), "PYTHONPATH"),
        (MemoryError(), "memory limit"),
    ],
)
def test_what_the_machine_refuses_is_no_bug_of_ours(
    error: Exception, cure: str, call: Call, capfd: pytest.CaptureFixture[str]
) -> None:
    """A disk that fails, a host without memory: what to look at is said."""
    code = call("check", answer=error)
    told = capfd.readouterr().err

    assert code == 2
    assert told.startswith(f"gpu-validator: error: {type(error).__name__}: ")
    assert cure in told
    assert "bug" not in told

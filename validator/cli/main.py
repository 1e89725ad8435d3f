"""The command `gpu-validator`: starts the worker before anything slow, and owns the exit code.

Only the standard library is imported here: `check` has its worker importing torch while typer,
pydantic and rich are imported for the command itself.
"""

import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from validator.cli.early import SERVE, EarlyWorker
from validator.cli.errors import UsageError, cannot_tell, say, values_of
from validator.engine.host_limits import refusal
from validator.service.signals import KEPT

_LAST_WORDS: Final = (
    b"gpu-validator: error: no memory was left to say more; see `ulimit -v` and `ulimit -d`\n"
)


#: What no bug of ours raises, and what to look at.
_ADVICE: Final = {
    # And no limit of this process would explain it.
    MemoryError: "no memory was left; see `free`, and the container's memory limit",
    # What a library in C makes of refused memory.
    SystemError: "the interpreter failed, as where memory lacks; see `free`",
    ImportError: "look at PYTHONPATH, and whether the installation can be read",
}


def main() -> int:
    """Run one command and give its exit code."""
    argv = sys.argv[1:]
    without_answer = cannot_tell(argv)  # found out while there is memory for it
    try:
        return _main(argv)
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001 - even saying so raised; 1 would mean a sick node
        _say_last()
        return without_answer
    finally:
        gc.freeze()  # nothing is left to be collected, and the interpreter's end would look


def _say_last() -> None:
    """Say in a line that was made before that there is no memory."""
    try:
        os.write(2, _LAST_WORDS)
    except BaseException:  # noqa: BLE001 - the exit code says it too
        return


def _main(argv: Sequence[str]) -> int:
    _open_streams()
    # The mask outlives an exec.
    kept = KEPT if argv[:1] == ["serve"] else frozenset[int]()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, kept)
    checked = os.environ.pop(SERVE, None)
    early = EarlyWorker()
    try:
        early.start(argv)
        return _serve(checked) if checked is not None else _command(argv, early)
    except UsageError as error:
        say(f"error: {error}")
        return cannot_tell(argv)
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT
    except BrokenPipeError:
        return 141  # 128 + SIGPIPE
    except SystemExit:
        raise
    # What a library in Rust panics with, such as pydantic's without memory, is no Exception.
    except BaseException as error:  # noqa: BLE001 - the interpreter's own 1 would mean a sick node
        if _debugging(argv):
            traceback.print_exc()
        say(_explain_error(error))
        return cannot_tell(argv)
    finally:
        early.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _told_first(error: BaseException) -> BaseException:
    """The exception that a library told again under another type, as asyncio does."""
    while (before := error.__cause__ or error.__context__) and str(before) == str(error):
        error = before
    return error


def _explain_error(error: BaseException) -> str:
    """An exception in one line, with the limit or the missing system call that it comes from."""
    trace, error = error.__traceback__, _told_first(error)
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    line, refused = "", None
    try:
        line = traceback.extract_tb(trace)[-1].line or ""
        with contextlib.suppress(OSError):  # of what explains it
            refused = refusal(text)
    except MemoryError:
        return f"error: {text}: no memory was left to say more; see `ulimit -v` and `ulimit -d`"
    if refused is not None:
        place = f", in `{line}`" if line else ""
        return f"error: {text}{place}: {refused}; {refused.hint}"
    if isinstance(error, OSError):  # a full disk, a file that is gone
        return f"error: {error}"
    for kind, advice in _ADVICE.items():
        if isinstance(error, kind):
            return f"error: {text}: {advice}"
    return f"internal error: {text} (a bug of gpu-validator; `--log.level debug` shows where)"


def _command(argv: Sequence[str], early: EarlyWorker) -> int:
    from validator.cli import app  # noqa: PLC0415 - slow, and imported while the worker starts

    return app.run(argv, early)


def _serve(checked: str) -> int:
    """Become the daemon, in a process that never imported typer or rich."""
    import json  # noqa: PLC0415 - the worker of the other commands starts without it

    from validator.service import startup  # noqa: PLC0415 - same
    from validator.service.server import serve  # noqa: PLC0415 - same
    from validator.settings.loading import load_in_time  # noqa: PLC0415 - this command alone needs it
    from validator.settings.values import SettingsError  # noqa: PLC0415 - same

    given = json.loads(checked)
    config_file = Path(given["config_file"]) if given["config_file"] is not None else None
    try:
        settings = load_in_time(config_file, given["flags"], startup.of_a_run)
    except SettingsError as error:  # the file has changed since it was checked
        raise UsageError(str(error)) from error
    return serve(settings, config_file, given["flags"])


def _debugging(argv: Sequence[str]) -> bool:
    variable = os.environ.get("GPU_VALIDATOR_LOG__LEVEL")
    return "debug" in (*values_of(argv, "--log.level"), variable)


def _open_streams() -> None:
    """Put /dev/null where the caller closed a stream, or a socket of ours would take its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")

"""Run `healthy` and `sick`, each trial in a forked child of one process that imported torch.

Prints a JSON object: for each name what its function returned, or how its child process ended.
"""

import inspect
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.emulator import healthy
from tests.emulator.sick import FAULT_TRIALS

HEALTHY: dict[str, Callable[[], None]] = {
    name: function
    for name, function in inspect.getmembers(healthy, inspect.isfunction)
    if function.__module__ == healthy.__name__
}

_TICK_S = 0.02
#: Seconds without a tick after which a hanging child holds the GIL; seconds of ticks after which
#: it hangs without the GIL.
_SILENT_S, _TICKING_S = 2.0, 1.5
#: Both, for a child that should not hang: a busy machine may be slow.
_PATIENT_S = 30.0


def main() -> None:
    """Run all trials, one after another."""
    results: dict[str, dict[str, Any]] = {"healthy": {}, "sick": {}}
    for name, function in HEALTHY.items():
        results["healthy"][name] = _in_child(function)
    for name, trial in FAULT_TRIALS.items():
        results["sick"][name] = _in_child(
            trial.action, trial.faults, hangs=str(trial.outcome).startswith("hangs")
        )
    json.dump(results, sys.stdout)


def _in_child(action: Callable[[], Any], faults: str = "", *, hangs: bool = False) -> Any:
    """What the action returned, the first line of its error, or how the child ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.environ["EMULATOR_FAULTS"] = faults
        _child(action, writer)
    os.close(writer)
    silent_s, ticking_s = (_SILENT_S, _TICKING_S) if hangs else (_PATIENT_S, _PATIENT_S)
    output, hang = _read_output(pid, reader, silent_s, ticking_s)
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    if output or hang:
        return hang or json.loads(output)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit {os.WEXITSTATUS(status)}"


def _child(action: Callable[[], Any], writer: int) -> None:
    """Run the action beside a thread that ticks, write the result, and exit without cleaning up."""

    def tick() -> None:
        while True:
            os.write(writer, b"\n")
            time.sleep(_TICK_S)

    threading.Thread(target=tick, daemon=True).start()
    try:
        value = action()
    except Exception as error:  # noqa: BLE001 - the test judges it
        value = f"{type(error).__name__}: {(str(error) or 'no text').splitlines()[0]}"
    os.write(writer, json.dumps(value).encode() + b"\n")
    os._exit(0)


def _read_output(pid: int, reader: int, silent_s: float, ticking_s: float) -> tuple[bytes, str]:
    """What the child wrote besides its ticks, and the kind of hang; a hanging child is killed."""
    text, began = b"", time.monotonic()
    while select.select([reader], [], [], silent_s)[0]:
        piece = os.read(reader, 65536)
        text += piece
        if not piece:
            return text.strip(), ""
        if time.monotonic() - began > ticking_s and not text.strip():
            os.kill(pid, signal.SIGKILL)
            return b"", "hangs, other threads go on"
    os.kill(pid, signal.SIGKILL)  # not yet waited for: it exists, if only as a zombie
    return b"", "hangs, no thread goes on"


if __name__ == "__main__":
    main()

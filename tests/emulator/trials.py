"""Runs `healthy` and `sick`, each trial in a forked child of one process that imported torch.

Prints a JSON object: for each name what its function returned, or how its child ended.
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
from tests.emulator.sick import SICK

HEALTHY: dict[str, Callable[[], None]] = {
    name: function
    for name, function in inspect.getmembers(healthy, inspect.isfunction)
    if function.__module__ == healthy.__name__
}

_TICK_S = 0.02
#: Silence after which a child that should hang holds the GIL; how long its ticks are listened to.
_SILENT_S, _TICKING_S = 2.0, 1.5
#: Both for a child that should not hang: a busy machine is no hang.
_PATIENT_S = 30.0


def main() -> None:
    """Run all trials, one after another."""
    told: dict[str, dict[str, Any]] = {"healthy": {}, "sick": {}}
    for name, function in HEALTHY.items():
        told["healthy"][name] = _in_child(function)
    for name, sick in SICK.items():
        told["sick"][name] = _in_child(
            sick.action, sick.faults, hangs=str(sick.outcome).startswith("hangs")
        )
    json.dump(told, sys.stdout)


def _in_child(action: Callable[[], Any], faults: str = "", *, hangs: bool = False) -> Any:
    """What the action returned, the first line that it raised, or how the child ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.environ["EMULATOR_FAULTS"] = faults
        _child(action, writer)
    os.close(writer)
    silent_s, ticking_s = (_SILENT_S, _TICKING_S) if hangs else (_PATIENT_S, _PATIENT_S)
    words, hang = _listen(pid, reader, silent_s, ticking_s)
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    if words or hang:
        return hang or json.loads(words)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit {os.WEXITSTATUS(status)}"


def _child(action: Callable[[], Any], writer: int) -> None:
    """Tick from a thread beside the action, and leave without cleaning up."""

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


def _listen(pid: int, reader: int, silent_s: float, ticking_s: float) -> tuple[bytes, str]:
    """What the child wrote beside its ticks; a hang is ended and told."""
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

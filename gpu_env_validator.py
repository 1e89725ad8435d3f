"""Where the command `gpu-validator` begins: under a name that no folder of a user's bears.

A `validator/`, a `probes/` or a `random.py` on PYTHONPATH must not end the command with Python's
own exit code 1, which would mean a sick node.
"""

import contextlib
import importlib
import os
import sys
from pathlib import Path


def main() -> int:
    """Run the command; whatever ends it but itself is told, and is "could not tell"."""
    judges = sys.argv[1:2] in (["check"], ["burn"])
    try:
        return _command()
    except SystemExit as ended:
        if "_GPU_VALIDATOR_COMPLETE" in os.environ:  # the shell asks what can be typed
            raise
        why = f"a module that was imported ended the program (exit code {ended.code})"
    except Exception as error:  # noqa: BLE001 - nothing of ours could be imported to say more
        why = f"{type(error).__name__}: {error}"
    with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or a full disk
        sys.stderr.write(f"gpu-validator: error: it could not start: {why}; look at PYTHONPATH\n")
        sys.stderr.flush()
    if judges and "--fail-open" in sys.argv:
        return 0
    # Told without the parser: to Nagios 2 would be a sick node.
    return 3 if judges and any(item.endswith("nagios") for item in sys.argv) else 2


def _command() -> int:
    """Run the command of our own packages, which stand beside this file."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    try:
        for package in ("probes", "validator"):
            importlib.import_module(package)
    finally:
        del sys.path[0]  # so that nothing of theirs is shadowed
    code: int = importlib.import_module("validator.cli.main").main()
    return code

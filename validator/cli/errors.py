"""What the command line says on stderr, and the exit code where nothing could be told."""

import contextlib
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

#: Of a line; what was typed may be of any length.
_LONGEST: Final = 4000


class UsageError(Exception):
    """The command line or the configuration is wrong; the text says where, and what is near."""


def cannot_tell(argv: Sequence[str]) -> int:
    """The exit code for "could not tell", before, or without, a report."""
    if argv[:1] not in (["check"], ["burn"]):
        return 2
    if "--fail-open" in argv:
        return 0
    return 3 if "nagios" in values_of(argv, "--exit-style") else 2


def say(line: str) -> None:
    """One line of ours on stderr."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in line).split())
    if len(flat) > _LONGEST:
        flat = f"{flat[: _LONGEST - 800]} ... {flat[-800:]}"  # the cure stands at the end
    # Python's stderr escapes what its encoding lacks. A full disk must not change the exit code.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"gpu-validator: {flat}\n")
        sys.stderr.flush()


def values_of(argv: Sequence[str], option: str) -> set[str]:
    """What an option was given as, seen without a parser."""
    after = {value for name, value in pairwise(argv) if name == option}
    joined = {item.partition("=")[2] for item in argv if item.startswith(f"{option}=")}
    return after | joined

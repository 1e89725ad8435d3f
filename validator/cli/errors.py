"""What the command line says on stderr, and the exit code where nothing could be told."""

import contextlib
import select
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

#: Of a line; what was typed may be of any length. A pipe with room takes as much without waiting.
_LONGEST: Final = 4000

#: How long a line waits for whoever reads, in seconds; then it is left out.
_PATIENCE_S: Final = 5.0


class UsageError(Exception):
    """The command line or the configuration is wrong; the text says where, and what is near."""


def cannot_tell(argv: Sequence[str]) -> int:
    """The exit code for "could not tell", before, or without, a report."""
    if argv[:1] not in (["check"], ["burn"]):
        return 2
    if "--fail-open" in argv:
        return 0
    return 3 if values_of(argv, "--exit-style")[-1:] == ["nagios"] else 2


def say(line: str, patience_s: float = _PATIENCE_S) -> None:
    """One line of ours on stderr; where nobody reads that in time, none."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in line).split())
    if len(flat) > _LONGEST:
        flat = f"{flat[: _LONGEST - 800]} ... {flat[-800:]}"  # the cure stands at the end
    # Python's stderr escapes what its encoding lacks. A full disk must not change the exit code.
    with contextlib.suppress(OSError):
        if not _has_room(patience_s):
            return
        sys.stderr.write(f"gpu-validator: {flat}\n")
        sys.stderr.flush()


def _has_room(patience_s: float) -> bool:
    """Whether stderr takes a line, waited for."""
    poll = select.poll()
    try:
        poll.register(sys.stderr.fileno(), select.POLLOUT)
    except OSError:  # no file of the system
        return True
    return bool(poll.poll(patience_s * 1000))


def values_of(argv: Sequence[str], option: str) -> list[str]:
    """What an option was given as, in that order, seen without a parser."""
    found = []
    for item, following in pairwise((*argv, "")):
        if item == option:
            found.append(following)
        elif item.startswith(f"{option}="):
            found.append(item.partition("=")[2])
    return found

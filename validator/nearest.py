"""The known name that an unknown one was meant to be. Standard library only."""

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """The known name that the unknown one was probably meant to be."""
    lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=cutoff)
    return lower[close[0]] if close else None


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """What to say after an unknown name: the nearest known one, or all of them."""
    names = list(known)
    close = closest(name, names)
    if close:
        return f"; did you mean {prefix + close!r}?"
    return f"; known: {', '.join(names)}" if names else ""

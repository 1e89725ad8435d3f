"""The known name that an unknown one was meant to be. Standard library only."""

from collections.abc import Iterable

#: A list of known names is told whole up to here; a longer one is no help.
_MOST_TOLD = 40


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that the unknown one was probably meant to be; None where none is near.

    Near is one wrong character in three, or the beginning of one known name alone.
    """
    wanted = name.lower()
    names = {candidate.lower(): candidate for candidate in known}
    most = max(1, len(wanted) // 3)
    if len(wanted) < 2 or len(wanted) > 2 * max(map(len, names), default=0):
        return None
    away = {
        candidate: _typing_errors(wanted, candidate)
        for candidate in names
        if abs(len(candidate) - len(wanted)) <= most  # each character more is an error of its own
    }
    best = min(away, key=lambda candidate: away[candidate], default="")
    if best and away[best] <= most:
        return names[best]
    begun = [candidate for candidate in names if candidate.startswith(wanted)]
    return names[begun[0]] if len(begun) == 1 else None


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """What to say after an unknown name: the nearest known one, or all of them."""
    names = list(known)
    close = closest(name, names)
    if close:
        return f"; did you mean {prefix + close!r}?"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= _MOST_TOLD else ""


def _typing_errors(one: str, other: str) -> int:
    """Fewest characters left out, put in, replaced or swapped (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        older, before, row = before, row, [i]
        for j, right in enumerate(other, 1):
            cost = min(before[j] + 1, row[-1] + 1, before[j - 1] + (left != right))
            if i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]

"""Values of options: what reads them, names the nearest right one, and completes them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

from probes.catalog import BY_NAME
from validator.cli.errors import UsageError
from validator.nearest import nearest
from validator.service.ask import usable
from validator.settings.values import DURATIONS, LONGEST_S, seconds


def one_of(option: str, known: Iterable[str]) -> Callable[[str | None], str | None]:
    """A check that names the nearest right value."""
    names = tuple(known)

    def checked(value: str | None) -> str | None:
        if value is not None and value not in names:
            raise UsageError(f"{option}: unknown value {value!r}{nearest(value, names)}")
        return value

    return checked


def members(option: str, given: list[str] | None) -> list[str]:
    """The members of an option that is repeated, or lists them with commas.

    Raises:
        UsageError: one is empty, as where a shell's variable is not set.
    """
    found = [name.strip() for text in given or [] for name in text.split(",")]
    if "" in found:
        text = next(text for text in given or [] if "" in map(str.strip, text.split(",")))
        raise UsageError(f"{option}: {text!r} has an empty name; give one, or several with commas")
    return found


def path_of(option: str) -> Callable[[str | Path], Path]:
    """What reads a path; an empty one is none, as where a shell's variable is not set."""

    def read(text: str | Path) -> Path:  # a default is a path already
        if not str(text).strip():
            raise UsageError(f"{option}: {text!r} is no path; write one, or leave {option} out")
        return Path(text)

    return read


def several(option: str) -> Callable[[list[str] | None], list[str]]:
    """What reads a list of any names; without the option there is none."""
    return lambda given: members(option, given)


def known_probes(option: str) -> Callable[[list[str] | None], list[str]]:
    """A check that every name is a probe's; without the option there is none."""

    def checked(given: list[str] | None) -> list[str]:
        names = members(option, given)
        for name in names:
            if name not in BY_NAME:
                raise UsageError(f"{option}: unknown probe {name!r}{nearest(name, BY_NAME)}")
        return names

    return checked


def completing(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Completions in a shell; of a list, of its last member."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in known if name.startswith(last)]

    return complete


def seconds_of(option: str, text: str | None) -> float | None:
    """The seconds that an option gives, above 0; None where it is not given.

    Raises:
        UsageError: it is no such time.
    """
    try:
        given_s = cast("float | None", seconds(text))
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
    if given_s is not None and not 0 < given_s <= LONGEST_S:
        why = "is no time above 0, and of a year at most"
        raise UsageError(f"{option}: {text!r} {why}; {DURATIONS}")
    return given_s


def refuse_both(*, quiet: bool, verbose: bool) -> None:
    """Refuse less and more at once."""
    if quiet and verbose:
        raise UsageError("--quiet and --verbose cannot go together")


def refuse_server(option: str, server: str | None) -> None:
    """Refuse what is no address of a daemon."""
    if server is not None and not usable(server):
        raise UsageError(
            f"{option}: {server!r} is no address such as http://127.0.0.1:8790 or unix:/path"
        )

"""What is offered for an unknown name is near it, or nothing is."""

import pytest

from probes.catalog import BY_NAME
from validator.cli.app import COMMANDS
from validator.nearest import closest, nearest

OPTIONS = ("probe", "no-probe", "profile", "quiet", "timeout", "timings", "version", "config.file")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("prbe", "probe"),
        ("PROBE", "probe"),
        ("porbe", "probe"),
        ("probes", "probe"),
        ("timout", "timeout"),
        ("teimout", "timeout"),
        ("no_probe", "no-probe"),
        ("prof", "profile"),
        ("config", "config.file"),
        ("verbose", None),
        ("quick", None),
        ("time", "timeout"),
        ("mp", None),
        ("p", None),
        ("", None),
        ("x" * 100_000, None),
    ],
)
def test_options(typed: str, meant: str | None) -> None:
    """A wrong character in three, two that are swapped, or the beginning of one name alone."""
    assert closest(typed, OPTIONS) == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("chek", "check"), ("lsit", "list"), ("health", "healthcheck"), ("run", None), ("go", None)],
)
def test_commands(typed: str, meant: str | None) -> None:
    """`run` is no `burn`: whoever types it wants something else."""
    assert closest(typed, COMMANDS) == meant


def test_every_probe_is_found_with_a_letter_left_out_or_swapped() -> None:
    """Whichever letter it is; another probe is never nearer."""
    for name in BY_NAME:
        for place in range(len(name) - 1):
            swapped = name[:place] + name[place + 1] + name[place] + name[place + 2 :]
            assert closest(name[:place] + name[place + 1 :], BY_NAME) == name
            assert closest(swapped, BY_NAME) == name


def test_a_name_of_another_length_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of wrong names cost little: each letter more is an error of its own."""
    compared: list[str] = []

    def errors(_: str, other: str) -> int:
        compared.append(other)
        return 9

    monkeypatch.setattr("validator.nearest._typing_errors", errors)
    closest("gradchek", ["gradcheck", "amp", "special_functions"])

    assert compared == ["gradcheck"]


def test_what_is_said() -> None:
    """The nearest name; without one all of them, where they are few; without any name nothing."""
    assert nearest("autogard", BY_NAME) == "; did you mean 'autograd'?"
    assert nearest("profle", ["profile"], "run.") == "; did you mean 'run.profile'?"
    assert nearest("xyzzy", ["text", "json"]) == "; known: text, json"
    assert nearest("xyzzy", []) == ""
    assert nearest("xyzzy", [f"check_{number}" for number in range(200)]) == ""

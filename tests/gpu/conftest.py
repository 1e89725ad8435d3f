"""What tests on an accelerator share: the board, and one table of all that was measured."""

from typing import Any, Final

import pytest

from tests.gpu import board

_ROWS: Final = pytest.StashKey[list[tuple[str, str, str]]]()
_BOARD: Final = pytest.StashKey[dict[str, Any]]()


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The survey of a machine whose torch can use the accelerator; else the tests are skipped."""
    found = board.survey()
    if not any(device["name"] == board.DEVICE for device in found["devices"]):
        pytest.skip(f"torch can use no {board.KIND} device here")
    request.config.stash[_BOARD] = found
    return found


@pytest.fixture
def table(request: pytest.FixtureRequest, machine: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of the table that is printed at the end: what, measured, budget."""
    assert machine
    return request.config.stash.setdefault(_ROWS, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was measured as one table that can be pasted into a report."""
    rows, found = config.stash.get(_ROWS, []), config.stash.get(_BOARD, None)
    if found is None:
        return
    first = next(device for device in found["devices"] if device["name"] == board.DEVICE)
    versions = found["environment"]
    terminalreporter.write_sep("=", "on this accelerator")
    told = (
        *(str(first[key]) for key in ("model_name", "capability") if first.get(key)),
        *(f"{key} {versions[key]}" for key in ("driver", "torch", "cudnn", "numpy", "python")),
    )
    terminalreporter.write_line(", ".join(told))
    width = max((len(what) for what, _, _ in rows), default=0)
    for what, measured, budget in rows:
        terminalreporter.write_line(f"{what:<{width}}  {measured:>22}  {budget}".rstrip())

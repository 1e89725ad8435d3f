"""The campaigns on the real daemon, as short as they can be."""

import random
from pathlib import Path

import pytest

from tests.chaos import disturb, disturbances
from tests.chaos.calls import Lives, recorded
from tests.chaos.disturb import Campaign
from tests.chaos.shim import NoCompilerError

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def lives(tmp_path: Path) -> Lives:
    """Lives without torch; skipped where there is no compiler."""
    try:
        return Lives(tmp_path, with_torch=False)
    except NoCompilerError as error:
        pytest.skip(str(error))


def test_a_life_is_recorded_whole(lives: Lives) -> None:
    """From the parser of the command line to the removal of the status files."""
    calls = recorded(lives)
    serving = {call.name for call in calls if call.serves}

    assert {call.stage for call in calls} == {1, 2}
    assert {"socket", "epoll_create1", "open64"} <= {call.name for call in calls}
    assert {"vfork", "pidfd_open", "accept4", "recvmsg", "renameat", "unlinkat"} <= serving


FAILED = {
    "no loop": ("epoll_create1:2:24", "ended with 2: gpu-validator: error: "),
    "no process": ("vfork:2:11", "went on with errors"),
    "no draft in place": ("renameat:1:28", "went on unharmed"),
}


@pytest.mark.parametrize(("fail", "how"), FAILED.values(), ids=FAILED)
def test_a_call_that_fails(lives: Lives, fail: str, how: str) -> None:
    """It goes on, or ends and says why; nothing is left of it either way."""
    seen, wrong, _ = lives.live(2, fail=fail)

    assert wrong == []
    assert seen.startswith(how)


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """Lives of one disturbance that harms nobody."""
    monkeypatch.setattr(disturb, "_AT_ONCE", (1, 1))
    return Campaign(1, tmp_path, (disturbances.meaningless_signals,))


@pytest.mark.torch
def test_a_life_that_is_hardly_disturbed_holds(campaign: Campaign) -> None:
    """Nothing is said of a daemon that is right."""
    outcome = campaign.life(0)

    assert outcome.violations == []
    assert outcome.runs
    assert outcome.looks


@pytest.mark.torch
def test_a_verdict_that_is_planted_is_seen(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault of a device is hidden from the judge: what the daemon says of it is wrong then."""
    number = next(number for number in range(100) if _faults(number) and "@" not in _faults(number))
    monkeypatch.setattr(Campaign, "_sick", lambda *_: {})
    outcome = campaign.life(number)

    assert any("fake:1 is sound, and was told to be fail" in one for one in outcome.violations)


def _faults(number: int) -> str:
    """What a life of the seed 1 has."""
    return random.Random(f"1.{number}").choice(disturb._FAULTS)  # noqa: S311 - as the campaign

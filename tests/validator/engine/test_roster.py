"""The devices of a burn over its rounds: one that goes is missed, and keeps its name."""

from dataclasses import replace

import pytest

from probes.catalog import MEMORY_FULL
from tests.validator import reports
from validator.engine.roster import Roster
from validator.report import CPU, Device, NotRun, Report


def gpu(name: str, uuid: str | None = "") -> Device:
    """A GPU of that name; its UUID is that of its first number unless another one is given."""
    own = f"GPU-{name[-1]}000000" if uuid == "" else uuid
    return Device(name=name, type="cuda", index=int(name[-1]), uuid=own)


FIRST, SECOND = gpu("cuda:0"), gpu("cuda:1")


def seen(roster: Roster, number: int, report: Report) -> dict[str, tuple[str, str]]:
    """Status and summary by device of a round, as the burn has them."""
    named = roster.renamed(report, MEMORY_FULL, number)
    return {one.device: (one.status, one.summary) for one in named.results}


def passed(*devices: Device) -> Report:
    """A round in which a probe passed on these."""
    results = [reports.result("memory_full", one.name, summary="ok") for one in devices]
    return reports.report(results, devices=devices)


GONE = ("fail", "it was here, and is gone in round 2")
FINE = ("pass", "ok")


def test_what_was_there_once_is_asked_for() -> None:
    """By the names that they had first; the CPU promises nothing, and a wish stands."""
    roster, asked = Roster(()), Roster(("cuda:1",))

    assert not roster.wanted
    seen(roster, 1, passed(CPU))
    assert not roster.wanted
    seen(roster, 2, passed(FIRST, SECOND))
    seen(asked, 1, passed(SECOND))
    assert roster.wanted == ("cuda:0", "cuda:1")
    assert asked.wanted == ("cuda:1",)


def test_the_same_devices_are_no_news() -> None:
    """Nor is a GPU whose UUID nobody tells in one of the rounds."""
    roster = Roster(())
    bare = replace_uuid(SECOND)

    assert seen(roster, 1, passed(FIRST, SECOND)) == {"cuda:0": FINE, "cuda:1": FINE}
    assert seen(roster, 2, passed(FIRST, bare)) == {"cuda:0": FINE, "cuda:1": FINE}
    assert seen(roster, 3, passed(FIRST, SECOND)) == {"cuda:0": FINE, "cuda:1": FINE}
    assert roster.devices == (FIRST, SECOND)


def replace_uuid(device: Device) -> Device:
    """The device without one."""
    return device.model_copy(update={"uuid": None})


@pytest.mark.parametrize("uuids", [True, False])
@pytest.mark.parametrize("told", [True, False])
def test_a_gpu_that_goes_has_failed_once(*, uuids: bool, told: bool) -> None:
    """Whether the run says that it is not here, or lists the others alone."""
    roster = Roster(())
    first, second = (FIRST, SECOND) if uuids else map(replace_uuid, (FIRST, SECOND))
    seen(roster, 1, passed(first, second))
    lost = reports.result("memory_full", "cuda:1", "fail", reason="no_device", summary="not here")
    rest = passed(first)
    after = rest.model_copy(update={"results": (*rest.results, *([lost] if told else []))})

    assert seen(roster, 2, after) == {"cuda:0": FINE, "cuda:1": GONE}
    assert roster.wanted == ("cuda:0", "cuda:1")
    assert seen(roster, 3, after) == {"cuda:0": FINE}


@pytest.mark.parametrize("told", [True, False])
def test_those_that_move_up_keep_their_names(*, told: bool) -> None:
    """The first of two goes, so that the second is `cuda:0` now: it is the first that is missed."""
    roster = Roster(())
    seen(roster, 1, passed(FIRST, SECOND))
    moved = gpu("cuda:0", SECOND.uuid)
    lost = reports.result("memory_full", "cuda:1", "fail", reason="no_device", summary="not here")
    rest = passed(moved)
    missed = NotRun(probe="matmul", device="cuda:0", reason="cancelled")
    after = rest.model_copy(
        update={"results": (*rest.results, *([lost] if told else [])), "not_run": (missed,)}
    )
    roster.see(after.devices)

    assert roster.name("cuda:0") == "cuda:1"
    named = roster.renamed(after, MEMORY_FULL, 2)
    assert {one.device: (one.status, one.summary) for one in named.results} == {
        "cuda:1": FINE,
        "cuda:0": GONE,
    }
    assert [one.device for one in named.not_run] == ["cuda:1"]
    assert seen(roster, 3, rest) == {"cuda:1": FINE}


def test_one_that_comes_back_pushes_none_out() -> None:
    """Those after it get their last names again: all are asked for, and none of them is gone."""
    roster, third = Roster(()), gpu("cuda:2")
    seen(roster, 1, passed(FIRST, SECOND, third))
    lost = seen(roster, 2, passed(FIRST, gpu("cuda:1", third.uuid)))
    here = [one for one in (FIRST, SECOND, third) if one.name in roster.wanted]

    assert lost == {"cuda:0": FINE, "cuda:1": GONE, "cuda:2": FINE}
    assert seen(roster, 3, passed(*here)) == {"cuda:0": FINE, "cuda:1": FINE, "cuda:2": FINE}
    assert seen(roster, 4, passed(FIRST, SECOND))["cuda:2"][0] == "fail"


def test_a_uuid_that_all_have_is_none() -> None:
    """Then the name alone tells them apart; the report keeps what was told."""
    roster = Roster(())
    alike = (FIRST, gpu("cuda:1", FIRST.uuid))

    assert seen(roster, 1, passed(*alike)) == {"cuda:0": FINE, "cuda:1": FINE}
    assert roster.devices == alike
    assert seen(roster, 2, passed(alike[0])) == {"cuda:0": FINE, "cuda:1": GONE}


def test_another_gpu_under_the_name_that_was_asked_for() -> None:
    """Who asked for `cuda:0` meant the GPU that had the name at first."""
    roster = Roster(("cuda:0",))
    seen(roster, 1, passed(FIRST))

    assert seen(roster, 2, passed(gpu("cuda:0", SECOND.uuid)))["cuda:0"] == GONE


def test_those_that_were_asked_for_by_uuid() -> None:
    """What the run calls by its UUID is the device that was seen by its name."""
    roster = Roster(("GPU-1000000", "GPU-0000000"))
    seen(roster, 1, passed(FIRST, SECOND))
    lost = reports.result("memory_full", "GPU-0000000", "fail", reason="no_device")
    rest = passed(gpu("cuda:0", SECOND.uuid))
    after = rest.model_copy(update={"results": (*rest.results, lost)})

    assert seen(roster, 2, after) == {"cuda:1": FINE, "cuda:0": GONE}


def test_a_round_that_could_not_list_the_devices_tells_nothing_of_them() -> None:
    """A survey that hung is no GPU that is gone; all that were there are asked for again."""
    roster = Roster(())
    seen(roster, 1, passed(FIRST, SECOND))
    unlisted = reports.result("memory_full", "cuda:0", "error", summary="not listed")
    nothing = reports.report([unlisted], devices=())

    assert seen(roster, 2, nothing) == {"cuda:0": ("error", "not listed")}
    assert roster.wanted == ("cuda:0", "cuda:1")
    named = roster.renamed(nothing, replace(MEMORY_FULL, name="other"), 3)
    assert named.devices == (FIRST, SECOND)


@pytest.mark.parametrize("was_there", [True, False])
def test_a_device_that_stays_away_is_told_once(*, was_there: bool) -> None:
    """To miss it again in each round is no other failure."""
    roster = Roster(("cuda:0", "cuda:1"))
    here, other = gpu("cuda:0"), gpu("cuda:1")
    lost = reports.result("memory_full", "cuda:1", "fail", reason="no_device", summary="not here")
    if was_there:
        roster.renamed(passed(here, other), MEMORY_FULL, 1)
    made = passed(here)
    without = made.model_copy(update={"results": (*made.results, lost)})
    told = [roster.renamed(without, MEMORY_FULL, number) for number in (2, 3, 4)]

    assert [[one.status for one in each.results] for each in told] == [
        ["pass", "fail"],
        ["pass"],
        ["pass"],
    ]

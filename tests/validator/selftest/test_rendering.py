"""A selftest as text: its columns are explained, and `quiet` leaves what is wrong."""

import io

import pytest

from probes.faults.table import BY_NAME
from tests.validator import reports
from validator.render.console import console_for
from validator.selftest import rendering
from validator.selftest.verdicts import Selftest, Trial, Verdict, scores, summarize

ON_A_DEVICE = next(fault for fault in BY_NAME.values() if fault.where == "any" and fault.trips)
ON_THE_HOST = next(fault for fault in BY_NAME.values() if fault.where == "host")
ON_A_NODE = next(fault for fault in BY_NAME.values() if fault.where == "node")


def selftest(*trials: tuple[str, str, Verdict]) -> Selftest:
    """A selftest of these faults, devices and verdicts."""
    made = tuple(
        Trial(
            fault=fault,
            kind=BY_NAME[fault].kind,
            device=device,
            verdict=verdict,
            expected=BY_NAME[fault].trips,
            text="not tripped: x.y" if verdict == "survived" else "",
        )
        for fault, device, verdict in trials
    )
    survived = sum(trial.verdict == "survived" for trial in made)
    return Selftest(
        host="node-1",
        started_at=reports.STARTED,
        duration_s=1.0,
        passed=not survived,
        summary=summarize(len(made), survived, 0),
        control=(),
        control_status="pass",
        devices=tuple({trial.device: None for trial in made}),
        trials=made,
        scores=scores(made),
        rivals=(),
    )


def text(made: Selftest, *, quiet: bool = False) -> str:
    """It in a log."""
    return rendering.text(made, console_for(io.StringIO(), width=160), quiet=quiet)


@pytest.mark.parametrize(
    ("fault", "device", "told", "untold"),
    [
        (ON_A_DEVICE, "cuda:0", (), ("stands for the host", "pretended")),
        (ON_THE_HOST, "cpu", ("cpu also stands for the host",), ("pretended",)),
        (ON_A_NODE, "cuda:1", ("cuda:1 is none of this machine's",), ("stands for the host",)),
    ],
    ids=lambda value: getattr(value, "where", None),
)
def test_the_column_of_devices_is_explained(
    fault: object, device: str, told: tuple[str, ...], untold: tuple[str, ...]
) -> None:
    """As far as it occurs: a `cuda:1` on a laptop is pretended, and `cpu` is the host too."""
    name = fault.name  # type: ignore[attr-defined]
    shown = text(selftest((name, device, "caught")))

    assert "device: where the fault was injected, and the probes under it ran" in shown
    assert all(words in shown for words in told)
    assert not any(words in shown for words in untold)


def test_the_list_explains_where() -> None:
    """Each word of the column that occurs, and no other."""
    faults = [ON_A_DEVICE, ON_A_NODE]
    legend = rendering.fault_list(faults, "text", console_for(io.StringIO())).splitlines()[-2]

    assert legend == "where: any: on each device; node: once, on a pretended node of two GPUs"


def test_quiet_leaves_what_survived_and_the_verdict() -> None:
    """One line where all is well."""
    well: tuple[str, str, Verdict] = (ON_A_DEVICE.name, "cpu", "caught")
    ill: tuple[str, str, Verdict] = (ON_THE_HOST.name, "cpu", "survived")

    assert text(selftest(well), quiet=True) == "✓ pass: 1 of 1 faults caught (1.0 s)\n"
    lines = text(selftest(well, ill), quiet=True).splitlines()
    assert lines[0].startswith("fault ")
    assert [line for line in lines if ON_A_DEVICE.name in line] == []
    assert any(ON_THE_HOST.name in line and "survived" in line for line in lines)
    assert lines[-1].startswith("✗ fail: 1 of 2")

"""What a burn adds to its report: how often each probe ran and failed, and what the boards said."""

from pydantic import AwareDatetime, Field

from probes.contract import Frozen, Status


class Range(Frozen):
    """The least and the greatest of what was seen."""

    least: float
    most: float


class BurnCount(Frozen):
    """One probe on one device, over all rounds; the report holds its worst result."""

    probe: str
    device: str
    runs: int = 0  # that came to a verdict: a skip is none
    failures: int = 0
    errors: int = 0  # that tell nothing of the device
    tested_s: float = 0.0
    worst: Status = "skip"
    worst_round: int = 0  # of the result that the report holds, from 1 on
    worst_at: AwareDatetime | None = None  # when that began


class BurnDevice(Frozen):
    """One device, over all rounds. None: nobody told."""

    device: str
    gpu_uuid: str | None = None
    tested_s: float = 0.0
    runs: int = 0
    failures: int = 0
    failures_per_hour: float | None = None  # of the time in which it was tested
    temperature_c: Range | None = None
    memory_temperature_c: Range | None = None
    power_w: Range | None = None
    clock_mhz: Range | None = None  # of the multiprocessors
    #: How much the board's own counters rose: errors, replaced rows, seconds of lowered clocks.
    counters: dict[str, float] = Field(default_factory=dict)
    xids: int | None = None  # error lines of the kernel's log


class Burn(Frozen):
    """A burn: its probes again and again until the time was over, or somebody stopped it."""

    wanted_s: float
    rounds: int = 0  # that were begun
    stopped_by: str = ""  # a signal's name, or why there was nothing more to test
    counts: tuple[BurnCount, ...] = ()
    devices: tuple[BurnDevice, ...] = ()

"""What a probe hands back: observations, findings, results. Pydantic only; no torch, no NumPy."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, field_validator

Status = Literal["pass", "warn", "fail", "error", "skip"]
Reason = Literal[
    "ok",
    "check_failed",
    "torch_raised",
    "timeout",
    "crashed",
    "import_failed",
    "unproven",
    "gpu_busy",
    "no_device",
    "lost_access",
    "not_applicable",
    "disabled",
    "dependency",
    "internal_error",
]
Action = Literal[
    "none",
    "fix_image",
    "fix_config",
    "recreate_container",
    "reset_gpu",
    "reboot_node",
    "drain",
    "investigate",
]

#: Worst first. The only ranking of statuses in the project.
RANKING: Final[tuple[Status, ...]] = ("fail", "error", "warn", "pass", "skip")


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of some statuses; `skip` when there are none, since absence is never health."""
    return min(statuses, key=RANKING.index, default="skip")


class Frozen(BaseModel):
    """Immutable, closed, and NaN and Inf survive a JSON round trip."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Observation(Frozen):
    """What was seen on the machine, raw, no opinion. Each probe derives its own."""


def _spelled_out(value: JsonValue) -> JsonValue:
    """Free-form values lose NaN in JSON, so it is spelled out as text before it gets there."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, list):
        return [_spelled_out(item) for item in value]
    if isinstance(value, dict):
        return {key: _spelled_out(item) for key, item in value.items()}
    return value


def _holds_nan(value: JsonValue) -> bool:
    """Python calls two lists equal that hold the same NaN."""
    if isinstance(value, float):
        return math.isnan(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_holds_nan(part) for part in parts)


#: In what way an operation was wrong: integers or other values that must be equal to the bit, an
#: error beyond its bound, or something else (it raised, had another shape, type or fact).
Wrong = Literal["integers", "bits", "bound", "other"]


class Finding(Frozen):
    """One check applied to an observation. `id` is `probe.check`, listed in `probes.catalog`."""

    id: str
    status: Status
    message: str = ""
    observed: JsonValue = None
    expected: JsonValue = None
    hint: str = ""
    action: Action = "none"
    #: Of a check over a family of operations: those that were wrong, and in what way.
    wrong: dict[str, Wrong] = Field(default_factory=dict)

    @property
    def computed_wrong(self) -> bool:
        """Whether operations came to an end there and gave wrong values, and did not just raise."""
        return any(way != "other" for way in self.wrong.values())

    @field_validator("observed", "expected")
    @classmethod
    def _keep_nan(cls, value: JsonValue) -> JsonValue:
        return _spelled_out(value)


class Measurement(Frozen):
    """A measured value in a base unit (seconds, bytes, bytes_per_second)."""

    name: str
    value: float
    unit: str
    threshold: float | None = None


class Timing(Frozen):
    """How long a part of something took, and when it began, in seconds since the whole began."""

    name: str
    device: str = ""  # that it was about, where it was about one
    started_s: float
    duration_s: float


class Failure(Frozen):
    """An exception that ended a probe: its type, its text and the end of its traceback."""

    type: str
    message: str
    traceback: str = ""


class Result(Frozen):
    """One probe on one device, once. `duration_s` is from a monotonic clock."""

    probe: str
    device: str
    gpu_uuid: str | None = None
    status: Status
    reason: Reason
    summary: str
    started_at: AwareDatetime
    duration_s: float
    findings: tuple[Finding, ...] = ()
    observation: dict[str, JsonValue] | None = None
    measurements: tuple[Measurement, ...] = ()
    timings: tuple[Timing, ...] = ()  # of its checks, where they were asked for
    memory_bytes: int | None = None  # taken on the device beyond its context; None: not measured
    error: Failure | None = None
    log_tail: str = ""
    fault: str | None = None  # injected on purpose: then it says nothing about the machine


class Comparison(Frozen):
    """One operation's output held against its reference, element by element.

    `mismatches` counts elements whose bits differ, or whose error exceeds the allowed one; a NaN
    that the reference does not have is always one. `problem` is set instead when the output had
    another shape or dtype, or when the operation raised.
    """

    operation: str
    elements: int = 0
    mismatches: int = 0
    first_index: tuple[int, ...] | None = None
    worst_index: tuple[int, ...] | None = None
    expected: float | int | str | None = None  # at the worst index
    observed: float | int | str | None = None  # at the worst index
    xor_mask: str | None = None  # bits that differ at the worst index, hexadecimal
    worst_error: float | None = None  # |observed - expected| at the worst index
    allowed_error: float | None = None  # there; None where bits must be equal
    problem: str = ""
    lacking: str = ""  # why the back-end has no such operation or type; then nothing was compared

    @property
    def holds(self) -> bool:
        """Whether the output was right in every element."""
        return not self.problem and self.mismatches == 0 and self.elements >= 0

    @property
    def name(self) -> str:
        """The operation without its variant: `matmul` of `matmul (float32, strided)`."""
        return self.operation.partition(" (")[0]

    @property
    def wrong(self) -> Wrong:
        """In what way it is wrong, where it does not hold."""
        if self.problem:
            return "other"
        if self.allowed_error is not None:
            return "bound"
        return "integers" if isinstance(self.expected, int) else "bits"

    def describe(self) -> str:
        """One line: operation, count, worst index, both values, allowance or mask."""
        if self.problem:
            return f"{self.operation}: {self.problem}"
        if self.holds:
            return f"{self.operation}: {self.elements} elements right"
        bound = (
            f"error {self.worst_error:.3g} > {self.allowed_error:.3g} allowed"
            if self.allowed_error is not None and self.worst_error is not None
            else f"bits differ by {self.xor_mask}"
        )
        return (
            f"{self.operation}: {self.mismatches} of {self.elements} elements wrong, first at "
            f"{list(self.first_index or ())}, worst at {list(self.worst_index or ())}: expected "
            f"{self.expected}, observed {self.observed} ({bound})"
        )


def expect(
    check: str,
    observed: JsonValue,
    expected: JsonValue,
    *,
    message: str = "",
    hint: str = "",
    action: Action = "investigate",
    otherwise: Status = "fail",
) -> Finding:
    """A finding that passes when `observed == expected`; NaN never passes, in a list neither."""
    return require(
        check,
        observed == expected and not _holds_nan(observed),
        observed,
        expected,
        message=message,
        hint=hint,
        action=action,
        otherwise=otherwise,
    )


def require(
    check: str,
    holds: bool,  # noqa: FBT001 - the verdict itself, named at every call by its place
    observed: JsonValue,
    expected: JsonValue,
    *,
    message: str = "",
    hint: str = "",
    action: Action = "investigate",
    otherwise: Status = "fail",
) -> Finding:
    """A finding that passes when `holds`; else `otherwise`, with both values, hint and action."""
    if holds:
        return Finding(id=check, status="pass", observed=observed, expected=expected)
    return Finding(
        id=check,
        status=otherwise,
        message=message or f"expected {expected}, observed {observed}",
        observed=observed,
        expected=expected,
        hint=hint,
        action=action,
    )


#: How a check's skip begins when others hold the GPU: the result's reason is then `gpu_busy`.
GPU_BUSY: Final = "the GPU is busy"


def skipped(check: str, why: str) -> Finding:
    """A check that does not apply here, said plainly."""
    return Finding(id=check, status="skip", message=why)


#: Characters of the operations that a passing finding lists; the observation has them all.
_LISTED_CHARACTERS: Final = 120


def _listed(operations: Sequence[str]) -> list[JsonValue]:
    """The first operations, and how many more there are."""
    shown: list[JsonValue] = []
    left = _LISTED_CHARACTERS
    for operation in operations:
        left -= len(operation)
        if left < 0 and shown:
            break
        shown.append(operation)
    more = len(operations) - len(shown)
    return [*shown, f"and {more} more"] if more else shown


#: The ways of being wrong, the one that says most last.
_WAYS: Final[tuple[Wrong, ...]] = ("other", "bound", "bits", "integers")


def _worst_ways(comparisons: Iterable[Comparison]) -> dict[str, Wrong]:
    """Operation -> in what way it is wrong; of several, the one that says most."""
    ways = sorted(comparisons, key=lambda comparison: _WAYS.index(comparison.wrong))
    return {comparison.name: comparison.wrong for comparison in ways}


def agree(
    check: str,
    comparisons: Sequence[Comparison],
    *,
    hint: str = "",
    action: Action = "investigate",
) -> Finding:
    """A finding over a family of operations: passes when there are some and every one holds.

    What the back-end lacks counts for nothing; a family of which it has nothing is skipped.
    """
    lacking = next((each.lacking for each in comparisons if each.lacking), "")
    comparisons = [each for each in comparisons if not each.lacking]
    if lacking and not comparisons:
        return skipped(check, lacking)
    wrong = [comparison for comparison in comparisons if not comparison.holds]
    if comparisons and not wrong:
        return Finding(
            id=check,
            status="pass",
            observed=_listed([comparison.operation for comparison in comparisons]),
            expected="bits equal, or error within its bound",
        )
    if not comparisons:
        return require(
            check, False, [], "at least one operation compared", hint=hint, action=action
        )
    named = ", ".join(comparison.operation for comparison in wrong[:8])
    named += f", and {len(wrong) - 8} more" if len(wrong) > 8 else ""
    return Finding(
        id=check,
        status="fail",
        message=f"{len(wrong)} of {len(comparisons)} operations wrong ({named}): "
        + wrong[0].describe(),
        observed=[comparison.describe() for comparison in wrong[:16]],
        expected=f"all {len(comparisons)} operations right in every element",
        hint=hint,
        action=action,
        wrong=_worst_ways(wrong),
    )


Profile = Literal["instant", "quick", "standard", "deep"]

#: Cheapest first; a profile runs its own probes and those of all before it.
PROFILES: Final[tuple[Profile, ...]] = ("instant", "quick", "standard", "deep")

MIB: Final = 1024 * 1024

#: The check of every probe that the worker makes, not `judge`: an exception that ended the probe.
COMPLETES: Final = "completes"


@dataclass(frozen=True)
class ProbeSpec:
    """One probe: what it costs, what it needs, and the checks it makes."""

    name: str
    profile: Profile
    needs: Literal["host", "device"]
    timeout_s: float
    interval_s: float
    #: Most memory taken on a GPU beyond its context, in bytes.
    memory_bytes: int
    #: Check name (without the probe's prefix) -> its promise in one line.
    checks: dict[str, str]
    #: Modules the worker imports before it forks this probe (first uses that are slow to import).
    preload: tuple[str, ...] = ()
    #: Where the probe's code is; by default the module of its own name.
    module: str = ""
    #: Its checks are about the node's GPUs also where it runs on the host.
    about_node: bool = False
    #: Checks that fail on hardware of every kind, proven or not, since arithmetic or the user has
    #: promised what they ask for -> the ways of being wrong that count, where operations are
    #: compared (`Finding.wrong`); any, where none are.
    certain: Mapping[str, tuple[Wrong, ...]] = field(default_factory=dict)
    #: The model of its limits, which a site may set; None: it has no limits.
    limits: type[Frozen] | None = None

    def __post_init__(self) -> None:
        if not self.module:
            object.__setattr__(self, "module", f"probes.{self.name}.probe")

    @property
    def check_ids(self) -> tuple[str, ...]:
        """The full ids, `probe.check`, of the checks that the probe's own `judge` makes."""
        return tuple(f"{self.name}.{check}" for check in self.checks)

    @property
    def promises(self) -> dict[str, str]:
        """Every check's name and promise, with the one that the worker makes for all probes."""
        return {**self.checks, COMPLETES: "the probe runs to its end: nothing raises unasked"}


#: Ways of being wrong that arithmetic rules out on hardware of any kind.
BITS: Final = ("bits", "integers")

INTEGERS: Final = ("integers",)

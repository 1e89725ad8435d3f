"""The data that probes return: observations, findings, results. No torch and no NumPy here."""

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
    """The worst of the statuses; `skip` when there are none: nothing checked is not a pass."""
    return min(statuses, key=RANKING.index, default="skip")


class Frozen(BaseModel):
    """An immutable model without extra fields; NaN and Inf survive a JSON round trip."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Observation(Frozen):
    """What a probe measured on the machine, not yet judged. Each probe derives its own class."""


def _nan_as_text(value: JsonValue) -> JsonValue:
    """The value with NaN and infinities as text: JSON cannot hold them in free-form values."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, list):
        return [_nan_as_text(item) for item in value]
    if isinstance(value, dict):
        return {key: _nan_as_text(item) for key, item in value.items()}
    return value


def _contains_nan(value: JsonValue) -> bool:
    """Whether NaN is in the value, at any depth: two lists with the same NaN compare equal."""
    if isinstance(value, float):
        return math.isnan(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_contains_nan(part) for part in parts)


#: How an operation was wrong: integers differ, other values that must be equal bit for bit differ,
#: an error exceeds its bound, or something else (it raised; shape, type or a fact is wrong).
Wrong = Literal["integers", "bits", "bound", "other"]


class Pattern(Frozen):
    """Which elements of an output were wrong, and in which bits. Indices are those of the output.

    A `stride` that is the same for many elements points to a lane, a bank or a column; one bit in
    `bits_all` to a line that is stuck.
    """

    elements: int
    mismatches: int
    first: tuple[tuple[int, ...], ...]  # indices of the first wrong elements
    last: tuple[tuple[int, ...], ...] = ()  # of the last ones that are not among the first
    common_index: tuple[int | None, ...] = ()  # on each axis that of all wrong elements, or None
    #: The largest number that divides all distances between wrong elements, in row-major order.
    stride: int | None = None
    regular: bool = False  # whether they are all `stride` apart
    bits_any: str | None = None  # wrong in some element, hexadecimal; None where bits may differ
    bits_all: str | None = None  # wrong in every one of them
    #: What a second copy of the device's memory to the host was: the same as the first, right, or
    #: different from both.
    second_read: Literal["same", "right", "different", "unknown"] = "unknown"


#: Whether all retries of a failed check failed, and what that points to.
Persistence = Literal["persistent", "intermittent", "unknown"]
Location = Literal["device", "environment", "unknown"]


class Try(Frozen):
    """One try of a check that failed, on its own device."""

    ended_s: float  # since the probe began
    temperature_c: int | None = None  # of the GPU when the try ended; None: unknown
    failed: bool


class Triage(Frozen):
    """What trying a failed check again told, in the same run. It never turns it into a pass."""

    kind: Persistence = "unknown"
    retries: int = 0  # on the same device
    failures: int = 0  # of those
    location: Location = "unknown"
    #: Other devices, `cpu` among them, by what the check came to there in this run.
    fails_on: tuple[str, ...] = ()
    passes_on: tuple[str, ...] = ()
    raises_on: tuple[str, ...] = ()
    unfinished_on: tuple[str, ...] = ()  # retries there took too long, or died with their process
    tries: tuple[Try, ...] = ()  # the first is the one that is reported


class Finding(Frozen):
    """One check applied to an observation. `id` is `probe.check`, listed in `probes.catalog`."""

    id: str
    status: Status
    message: str = ""
    observed: JsonValue = None
    expected: JsonValue = None
    hint: str = ""
    action: Action = "none"
    #: Operation -> how it was wrong, where the check compares a family of operations.
    wrong: dict[str, Wrong] = Field(default_factory=dict)
    #: Operation with its variant -> where it was wrong; of the first few.
    patterns: dict[str, Pattern] = Field(default_factory=dict)
    triage: Triage | None = None  # of a failure that was tried again

    @property
    def computed_wrong(self) -> bool:
        """Whether some operation returned wrong values; one that only raised does not count."""
        return any(way != "other" for way in self.wrong.values())

    @field_validator("observed", "expected")
    @classmethod
    def _keep_nan(cls, value: JsonValue) -> JsonValue:
        return _nan_as_text(value)


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
    fault: str | None = None  # injected on purpose; the result then says nothing about the machine


class Comparison(Frozen):
    """One operation's output compared with its reference, element by element.

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
    pattern: Pattern | None = None  # of all wrong elements; None in old recordings
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
        """How the output is wrong; only valid where it is wrong."""
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
    """A finding that passes when `observed == expected`; NaN never passes, alone or in a list."""
    return require(
        check,
        observed == expected and not _contains_nan(observed),
        observed,
        expected,
        message=message,
        hint=hint,
        action=action,
        otherwise=otherwise,
    )


def require(
    check: str,
    holds: bool,  # noqa: FBT001 - the condition itself; its position says what it is
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


#: Start of the message of a check skipped because others use the GPU; the reason of the result is
#: then `gpu_busy`.
GPU_BUSY: Final = "the GPU is busy"


def skipped(check: str, why: str) -> Finding:
    """A finding with status `skip` for a check that does not apply here; `why` is its message."""
    return Finding(id=check, status="skip", message=why)


#: Limit on the operation names in a passing finding; the observation has all of them.
_LISTED_CHARACTERS: Final = 120


def _first_operations(operations: Sequence[str]) -> list[JsonValue]:
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


#: Limit on the operations of which a finding has the pattern; the observation has all.
_PATTERNS: Final = 3

#: From the least informative way of being wrong to the most informative.
_WRONG_RANKING: Final[tuple[Wrong, ...]] = ("other", "bound", "bits", "integers")


def _wrong_operations(comparisons: Iterable[Comparison]) -> dict[str, Wrong]:
    """Operation -> how it is wrong; the most informative way where there are several."""
    ranked = sorted(comparisons, key=lambda comparison: _WRONG_RANKING.index(comparison.wrong))
    return {comparison.name: comparison.wrong for comparison in ranked}


def _first_patterns(comparisons: Iterable[Comparison]) -> dict[str, Pattern]:
    """Operation with its variant -> pattern, of the first that have one."""
    known = {each.operation: each.pattern for each in comparisons if each.pattern is not None}
    return dict(list(known.items())[:_PATTERNS])


def agree(
    check: str,
    comparisons: Sequence[Comparison],
    *,
    hint: str = "",
    action: Action = "investigate",
) -> Finding:
    """A finding over a family of operations: passes when some were compared and all are right.

    Operations that the back-end lacks are ignored; if it lacks all of them, the check is skipped.
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
            observed=_first_operations([comparison.operation for comparison in comparisons]),
            expected="bits equal, or error within its bound",
        )
    if not comparisons:
        return require(
            check, False, [], "at least one operation compared", hint=hint, action=action
        )
    names = ", ".join(comparison.operation for comparison in wrong[:8])
    names += f", and {len(wrong) - 8} more" if len(wrong) > 8 else ""
    return Finding(
        id=check,
        status="fail",
        message=f"{len(wrong)} of {len(comparisons)} operations wrong ({names}): "
        + wrong[0].describe(),
        observed=[comparison.describe() for comparison in wrong[:16]],
        expected=f"all {len(comparisons)} operations right in every element",
        hint=hint,
        action=action,
        wrong=_wrong_operations(wrong),
        patterns=_first_patterns(wrong),
    )


Profile = Literal["instant", "quick", "standard", "deep"]

#: Cheapest first; a profile runs its own probes and those of all before it.
PROFILES: Final[tuple[Profile, ...]] = ("instant", "quick", "standard", "deep")

#: Profiles whose probes load a device: they need it idle, and do not run when a daemon starts.
HEAVY: Final[tuple[Profile, ...]] = ("standard", "deep")

MIB: Final = 1024 * 1024

#: Name of the check that the worker adds to every probe: it fails if an exception ended the probe.
COMPLETES: Final = "completes"


@dataclass(frozen=True)
class ProbeSpec:
    """One probe: what it costs, what it needs, and the checks it makes."""

    name: str
    profile: Profile
    needs: Literal["host", "device"]
    timeout_s: float
    interval_s: float
    #: Most memory taken on a GPU beyond its context, in bytes, as `memory_measured` says.
    memory_bytes: int
    #: Check name (without the probe's prefix) -> its promise in one line.
    checks: dict[str, str]
    #: Modules the worker imports before it forks this probe (first uses that are slow to import);
    #: heavy probes alone wait for that.
    preload: tuple[str, ...] = ()
    #: Where the probe's code is; by default the module of its own name.
    module: str = ""
    #: Whether its checks concern the node's GPUs although it runs on the host.
    about_node: bool = False
    #: Checks whose failure counts on any hardware, proven or not, because arithmetic or the user's
    #: setting guarantees the answer -> the values of `Finding.wrong` that count; in a check that
    #: compares no operations every failure counts.
    certain: Mapping[str, tuple[Wrong, ...]] = field(default_factory=dict)
    #: Checks that warn where a released torch has a defect that is known: in a selftest, where the
    #: control must be quiet, only their failure counts.
    may_warn: tuple[str, ...] = ()
    #: The board and the torch on which its memory was measured; "" for a probe that takes none.
    memory_measured: str = ""
    #: Most memory taken beyond that where at least twice as much is free, in bytes.
    optional_memory_bytes: int = 0
    #: How long it takes, in seconds, as measured on two cores and on an H200, or as reckoned where
    #: it has not run there: progress is told by it, and no verdict.
    typical_s: float = 1.0
    #: Whether it takes so much of a GPU that no other probe may run there beside it.
    alone: bool = False
    #: The model of its limits, which a site may set; None: it has no limits.
    limits: type[Frozen] | None = None
    #: Whether it needs torch. One that does not runs on the host, in a worker without torch.
    needs_torch: bool = True

    def __post_init__(self) -> None:
        if not self.needs_torch and self.needs != "host":
            raise ValueError(f"{self.name}: without torch there are no devices to run on")
        if not self.module:
            object.__setattr__(self, "module", f"probes.{self.name}.probe")

    @property
    def is_heavy(self) -> bool:
        """Whether it loads a device: it runs seldom, never at start, and on an idle device."""
        return self.profile in HEAVY

    @property
    def check_ids(self) -> tuple[str, ...]:
        """The full ids, `probe.check`, of the checks that the probe's own `judge` makes."""
        return tuple(f"{self.name}.{check}" for check in self.checks)

    @property
    def promises(self) -> dict[str, str]:
        """Check name -> promise, including the check that the worker adds to all probes."""
        return {**self.checks, COMPLETES: "the probe runs to its end: nothing raises unasked"}


#: Ways of being wrong that arithmetic rules out on hardware of any kind.
BITS: Final = ("bits", "integers")

INTEGERS: Final = ("integers",)

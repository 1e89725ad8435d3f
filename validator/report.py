"""The report: one document that feeds exit code, terminal, JSON, HTTP, metrics and files."""

import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal

from pydantic import AwareDatetime
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import FloatSchema

from probes.contract import Frozen, Reason, Result, Status, Timing, worst
from probes.legible import legible
from validator import __version__
from validator.burn import Burn
from validator.piecewise import Pieces, at_once
from validator.shortened import REPORT_BYTES, fit_results, text

SCHEMA_VERSION: Final = 1

#: Longest summary line: what node conditions, drain reasons and readiness bodies show whole.
SUMMARY_CHARACTERS: Final = 80

#: Longest name of a host (RFC 1123), and of a revision.
_NAME_CHARACTERS: Final = 253

Trigger = Literal["cli", "schedule", "api", "merged"]


class Tool(Frozen):
    """What made the report."""

    name: str = "gpu-validator"
    version: str = __version__
    revision: str = ""


class Environment(Frozen):
    """The software under test. None means that it could not be told, or is not there."""

    torch: str | None = None
    torch_cuda: str | None = None
    torch_hip: str | None = None
    cudnn: str | None = None
    nccl: str | None = None
    numpy: str | None = None
    python: str | None = None
    driver: str | None = None
    os: str | None = None
    fingerprint: str | None = None  # equal on two nodes when everything above that computes is


class GpuProcess(Frozen):
    """A process that uses a GPU. In a container its id is the one that the host knows."""

    pid: int
    memory_bytes: int | None = None  # on this GPU


class Device(Frozen):
    """A device that probes ran on. A GPU's identity is its UUID; the name is this process's."""

    name: str  # "cuda:0", "cpu"; "cuda:0:3" is MIG instance 3 of GPU 0
    type: str  # "cuda", "cpu"
    index: int = 0
    alone: bool = False  # CUDA shows it only to a process that sees nothing else; there, as cuda:0
    uuid: str | None = None
    parent_uuid: str | None = None  # of the GPU that a MIG instance is part of
    pci_bus_id: str | None = None
    model_name: str | None = None
    capability: str | None = None  # "9.0"
    memory_bytes: int | None = None
    memory_free_bytes: int | None = None
    process_count: int | None = None  # of others, before the run
    processes: tuple[GpuProcess, ...] = ()  # the same, where NVML lists them
    utilization_percent: int | None = None  # before the run, too
    memory_used_bytes: int | None = None  # by others, without what the driver reserves
    compute_mode: str | None = None
    backend: str | None = None  # its type as proven.json names it: "cuda", "hip", "cuda-mig"

    @property
    def torch_name(self) -> str:
        """What torch calls it in the process that runs its probes."""
        return f"{self.type}:0" if self.alone else self.name


CPU: Final = Device(name="cpu", type="cpu")


NotRunReason = Literal["run_timeout", "cancelled", "device_held", "device_hangs"]


class NotRun(Frozen):
    """A planned probe that got no chance.

    The run's time was over, it was cancelled, or its device is held by a process that cannot be
    killed, or hangs.
    """

    probe: str
    device: str
    reason: NotRunReason


class Report(Frozen):
    """One pass over a plan. `results` holds one entry for every planned probe and device."""

    schema_version: int = SCHEMA_VERSION
    tool: Tool = Tool()
    run_id: str
    host: str
    trigger: Trigger
    profile: str
    started_at: AwareDatetime
    finished_at: AwareDatetime
    duration_s: float
    status: Status
    summary: str
    environment: Environment = Environment()
    devices: tuple[Device, ...] = ()
    results: tuple[Result, ...] = ()
    not_run: tuple[NotRun, ...] = ()
    timings: tuple[Timing, ...] = ()  # steps outside the probes, where they were asked for
    burn: Burn | None = None  # of a burn: `results` are then the worst of each probe and device


def overall(results: Iterable[Result], not_run: Sequence[NotRun] = ()) -> Status:
    """The worst status; nothing passed or warned is never `pass`, and a lost chance is `error`."""
    status = worst([result.status for result in results] + ["error"] * len(not_run))
    return "error" if status == "skip" else status


def summarize(results: Sequence[Result], not_run: Sequence[NotRun] = ()) -> str:
    """One line of at most 80 characters: the first thing that is wrong, or how much was proven.

    What does not fit gives way to a shorter text that still names probe, device and check; no
    word is cut. `full_summary` gives the text that is not shortened.
    """
    return fitting(*_lines(results, not_run))


def full_summary(results: Sequence[Result], not_run: Sequence[NotRun] = ()) -> str:
    """The same in one line of any length."""
    return flat(next(_lines(results, not_run)))


def _lines(results: Sequence[Result], not_run: Sequence[NotRun]) -> Iterator[str]:
    """What the results say together, whole and then ever shorter."""
    status = overall(results, not_run)
    counts = Counter(result.status for result in results)
    bad = [result for result in results if result.status == status]
    if status in {"fail", "error", "warn"} and bad:
        yield from result_lines(bad[0], more=len(bad) - 1)
    elif not_run:
        line = f"{status}: {len(not_run)} of {len(results) + len(not_run)} not run"
        why = ", ".join(sorted({one.reason for one in not_run}))
        yield from (f"{line} ({why})", line)
    elif not counts["pass"]:
        line = f"{status}: nothing could be told: "
        if counts["skip"]:
            reasons = ", ".join(sorted({result.reason for result in results}))
            line += f"{counts['skip']} skipped"
            yield from (f"{line} ({reasons})", line)
        else:
            yield f"{line}no probe was planned"
    else:
        yield _proven(results)


def result_lines(result: Result, *, more: int = 0) -> Iterator[str]:
    """One result in a line, whole and then ever shorter; `more` are as bad as it is."""
    head = f"{result.status}: {result.probe} on {result.device}"
    heads = [f"{head} (+{more} more)", head] if more else [head]
    clauses = result.summary.split(": ")
    for place in range(len(clauses), 0, -1):
        yield f"{heads[0]}: {': '.join(clauses[:place])}"
    check = _check(result)
    yield from (f"{one}: {check}" for one in heads)
    yield from (head, f"{result.status}: {result.probe}")


def _check(result: Result) -> str:
    """The check that decided a result, or the reason where that tells more."""
    if result.reason in {"check_failed", "ok"}:
        for finding in result.findings:
            if finding.status == result.status:
                return finding.id.partition(".")[2] or finding.id
    return result.reason


def _proven(results: Sequence[Result]) -> str:
    """How much passed, on how many GPUs."""
    passed = [result for result in results if result.status == "pass"]
    probes = len({result.probe for result in passed})
    names = {result.device for result in passed} - {CPU.name}
    gpus, what = len(names), "GPU"
    if any(name.count(":") > 1 for name in names):  # MIG instances, as `cuda:0:3`
        what = "device"
    line = f"pass: {probes} probe{'s' if probes > 1 else ''}"
    if gpus:
        line += f" on {gpus} {what}{'s' if gpus > 1 else ''}"
    if skips := len(results) - len(passed):
        line += f", {skips} skipped"
    if busy := sum(result.reason == "gpu_busy" for result in results):
        line += f", {busy} for a busy {what}"
    if any(result.reason == "no_device" for result in results):
        line += " (no GPU here: checked on the CPU)"
    return line


def fitting(*lines: str) -> str:
    """The first of the lines, longest first, that has at most 80 characters; else the last."""
    shown = [flat(line) for line in lines]
    return next((line for line in shown if len(line) <= SUMMARY_CHARACTERS), shown[-1])


def flat(text: str) -> str:
    """The text on one line, free of control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def host_name() -> str:
    """This node's name: NODE_NAME where set, since a pod's own name is no node."""
    return legible(os.environ.get("NODE_NAME") or platform.node() or "unknown", _NAME_CHARACTERS)


def is_same_host(one: str, other: str) -> bool:
    """Whether two names are one host's; it may be told without its domain."""
    one, other = one.lower(), other.lower()
    if "." in one and "." in other:
        return one == other
    return one.partition(".")[0] == other.partition(".")[0]


def revision() -> str:
    """The source revision that the image was built from, where it says so."""
    return legible(os.environ.get("VALIDATOR_IMAGE_REVISION", ""), _NAME_CHARACTERS)


ExitStyle = Literal["default", "nagios"]

_EXIT_DEFAULT: Final[dict[Status, int]] = {"pass": 0, "warn": 0, "fail": 1, "error": 2, "skip": 2}
_EXIT_NAGIOS: Final[dict[Status, int]] = {"pass": 0, "warn": 1, "fail": 2, "error": 3, "skip": 3}


def exit_code(
    report: Report, *, style: ExitStyle = "default", strict: bool = False, fail_open: bool = False
) -> int:
    """The verdict as an exit code.

    0 no fail and no error (and something passed or warned), 1 fail, 2 could not tell. `nagios`
    gives 0/1/2/3; `strict` turns warn, and any skip, into the code of fail; `fail_open` turns
    "could not tell" into 0, since a Slurm prolog drains on any non-zero.
    """
    codes = _EXIT_NAGIOS if style == "nagios" else _EXIT_DEFAULT
    status = report.status
    doubtful = status == "warn" or any(result.status == "skip" for result in report.results)
    if strict and status in {"pass", "warn"} and doubtful:
        return codes["fail"]
    if fail_open and status in {"error", "skip"}:
        return 0
    return codes[status]


def make_report(
    *,
    run_id: str,
    trigger: Trigger,
    profile: str,
    results: Sequence[Result],
    not_run: Sequence[NotRun] = (),
    **fields: Any,
) -> Report:
    """A report whose status and summary follow from its results.

    Raises:
        ValueError: a result was made under a fault, so that it says nothing about the node.
    """
    refuse_faults(results)
    return Report(
        tool=Tool(revision=revision()),
        run_id=run_id,
        host=host_name(),
        trigger=trigger,
        profile=profile,
        status=overall(results, not_run),
        summary=summarize(results, not_run),
        results=tuple(results),
        not_run=tuple(not_run),
        **fields,
    )


def refuse_faults(results: Iterable[Result]) -> None:
    """Keep what was made under a fault out of everything that speaks for the node.

    Raises:
        ValueError: with the fault's name.
    """
    for result in results:
        if result.fault is not None:
            raise ValueError(f"{result.probe} ran under the fault {result.fault}: no verdict")


class _WithNaN(GenerateJsonSchema):
    """NaN and Inf are written as text (Frozen), which pydantic's own schema does not tell."""

    def float_schema(self, schema: FloatSchema) -> JsonSchemaValue:
        """Either a number, or one of the three that JSON cannot hold."""
        return {"anyOf": [super().float_schema(schema), {"enum": ["NaN", "Infinity", "-Infinity"]}]}


def to_json(report: Report) -> str:
    """The report as JSON in one line; of a finding only the fields that say something.

    Where much is wrong details give way, so that it has at most 1.25 MiB.
    """
    return at_once(in_json(report))


def in_json(report: Report, most_bytes: int = REPORT_BYTES) -> Pieces[str]:
    """The same, a result a piece."""
    fields = json.loads(report.model_dump_json(exclude={"results"}))
    if report.burn is None:
        del fields["burn"]
    texts = {name: text(value) for name, value in fields.items()}
    results = []
    for result in report.results:
        results.append(_result_text(result))
        yield
    if not _asked_for_observations(report):
        left = most_bytes - sum(len(f'"{name}":,{one}'.encode()) for name, one in texts.items())
        results = yield from fit_results(results, left - len('{"results":[]}'))
    texts["results"] = f"[{','.join(results)}]"
    ordered = (f'"{name}":{texts[name]}' for name in Report.model_fields if name in texts)
    return f"{{{','.join(ordered)}}}"


def _result_text(result: Result) -> str:
    content = json.loads(result.model_dump_json())
    content["findings"] = [
        {key: value for key, value in finding.items() if value not in (None, "", "none", {})}
        for finding in content["findings"]
    ]
    return text(content)


def _asked_for_observations(report: Report) -> bool:
    """Whether a result that is good has its observation."""
    return any(
        result.observation is not None and result.status in {"pass", "skip"}
        for result in report.results
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    schema = Report.model_json_schema(mode="serialization", schema_generator=_WithNaN)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def without_chance(reason: Reason) -> bool:
    """Whether a result of that reason says nothing about the machine (it keeps the last one)."""
    return reason in {"gpu_busy", "disabled"}

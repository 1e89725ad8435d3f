"""A report as text: a table by device and probe, then all that is wrong, then the verdict."""

from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from probes.catalog import BY_NAME
from probes.contract import Action, Finding, Result
from validator import triage
from validator.render import burn, timings
from validator.render.console import clean, mark, plain, short, table, text_of
from validator.report import Device, Report, full_summary

#: Lines of a dead probe's output that are shown; the report holds more.
_LOG_LINES: Final = 12

_BAD: Final = ("fail", "error", "warn")

#: What to do, in words.
ACTIONS: Final[dict[Action, str]] = {
    "none": "",
    "fix_image": "fix the image",
    "fix_config": "fix the configuration",
    "recreate_container": "recreate the container",
    "reset_gpu": "reset the GPU",
    "reboot_node": "reboot the node",
    "drain": "drain the node",
    "investigate": "investigate",
}


def render(report: Report, console: Console, *, quiet: bool = False, verbose: bool = False) -> str:
    """The report for a person.

    `quiet` leaves only what is wrong, and the verdict; `verbose` lists each check.
    """
    parts: list[RenderableType] = []
    if not quiet:
        parts += [*_head(report), ""]
    if report.results and not quiet:
        parts += [*_results(report, console, verbose=verbose), ""]
    if report.burn is not None:
        parts += [*burn.lines(report.burn, console), ""]
    if report.timings:
        parts += [*timings.lines(report, console), ""]
    end = text_of(console, *_not_run(report), _verdict(report))
    return text_of(console, *parts) + _all_wrong(report, console) + end


def _all_wrong(report: Report, console: Console) -> str:
    """What is wrong, once: eight GPUs that fail alike are one paragraph."""
    paragraphs: dict[tuple[str, str], list[Result]] = {}
    for result in report.results:
        if result.status in _BAD:
            body = text_of(console, *_wrong(result, console))
            alike = body.replace(f" {result.probe}.", " ")
            paragraphs.setdefault((result.status, alike), []).append(result)
    text = ""
    for (_, alike), results in paragraphs.items():
        first = results[0]
        probes = dict.fromkeys(result.probe for result in results)
        devices = dict.fromkeys(result.device for result in results)
        where = f"{', '.join(probes)} on {', '.join(devices)}"
        if len(results) != len(probes) * len(devices):  # not each of them on each
            where = ", ".join(f"{result.probe} on {result.device}" for result in results)
        body = text_of(console, *_wrong(first, console)) if len(probes) == 1 else alike
        text += text_of(console, mark(first.status, f"{first.status}  {where}")) + body + "\n"
    return text


def _head(report: Report) -> Iterator[RenderableType]:
    """What ran where, and the software under test."""
    yield Text(
        f"gpu-validator {report.tool.version} · {clean(report.host)} · "
        f"profile {report.profile} · {report.started_at:%Y-%m-%d %H:%M:%S %Z}"
    )
    seen = report.environment
    known = {
        "torch": seen.torch,
        "CUDA": seen.torch_cuda,
        "HIP": seen.torch_hip,
        "cuDNN": seen.cudnn,
        "NCCL": seen.nccl,
        "driver": seen.driver,
        "NumPy": seen.numpy,
        "Python": seen.python,
    }
    software = [f"{name} {clean(version)}" for name, version in known.items() if version]
    if software:
        yield Text(" · ".join(software))
    for device in report.devices:
        if device.type != "cpu":
            yield Text(_identity(device))


def _identity(device: Device) -> str:
    parts = (device.name, device.model_name, device.uuid)
    return " · ".join(clean(part) for part in parts if part)


def _results(report: Report, console: Console, *, verbose: bool) -> list[Text]:
    rows: list[tuple[str | Text, ...]] = []
    below: list[list[Text]] = []
    for device in dict.fromkeys(result.device for result in report.results):
        name = device
        for result in report.results:
            if result.device == device:
                seconds = f"{result.duration_s:6.2f} s"
                rows.append((name, result.probe, mark(result.status), seconds, _cell(result)))
                name = ""
                below.append([_check(finding, console) for finding in result.findings])
    head, rule, *lines = table(console, ("device", "probe", "status", "    time", "summary"), rows)
    if not verbose:
        return [head, rule, *lines]
    both = zip(lines, below, strict=True)
    return [head, rule, *(each for line, checks in both for each in (line, *checks))]


def _check(finding: Finding, console: Console) -> Text:
    """A check in one line, below the line of its probe: what it promises, or why it is not kept."""
    probe, _, name = finding.id.partition(".")
    spec = BY_NAME.get(probe)
    promise = spec.promises.get(name, "") if spec is not None else ""
    told = promise if finding.status == "pass" else finding.message or promise
    line = Text.assemble("  ", mark(finding.status, name), "  ", " ".join(clean(told).split()))
    if console.is_terminal:
        line.truncate(console.width, overflow="ellipsis")
    return line


def _cell(result: Result) -> str:
    """The summary on one line; a skip's begins with its reason code."""
    line = " ".join(clean(result.summary).split())
    return f"{result.reason}: {line}".rstrip(": ") if result.status == "skip" else line


def _wrong(result: Result, console: Console) -> Iterator[RenderableType]:
    """Everything that is known about one probe that did not pass."""
    bad = [finding for finding in result.findings if finding.status in _BAD]
    told = {finding.message for finding in bad}
    if not bad or result.reason not in {"check_failed", "torch_raised"}:
        summary = "" if result.summary in told else f": {result.summary}"
        yield _line("", f"{result.reason}{summary}", console, 2)
    elif not any(message in result.summary for message in told):  # the cause of a known text
        yield _line("", result.summary, console, 2)
    elif not any(map(result.summary.endswith, told)) and not any(each.triage for each in bad):
        # In reports of older versions what the retries told stands only in the summary's brackets.
        yield _line("", result.summary.rpartition(" (")[2].removesuffix(")"), console, 2)
    for finding in bad:
        yield from _finding(finding, console)
    if result.error is not None and not bad:
        yield _line("raised", f"{result.error.type}: {result.error.message}", console, 4)
    if result.error is not None and result.reason == "internal_error":  # for whoever mends it
        yield from _tail("traceback", result.error.traceback)
    yield from _tail("its output", result.log_tail)


def _tail(title: str, text: str) -> Iterator[RenderableType]:
    """The end of a long text."""
    lines = clean(text).rstrip().splitlines()
    if not lines:
        return
    dropped = f" (last {_LOG_LINES} of {len(lines)} lines)" if len(lines) > _LOG_LINES else ""
    yield Padding(Text(f"{title}{dropped}:"), (0, 0, 0, 4))
    for line in lines[-_LOG_LINES:]:
        yield Text(f"    | {line}", style="dim")


def _finding(finding: Finding, console: Console) -> Iterator[RenderableType]:
    """One check that did not hold: both values, what to do."""
    yield Text.assemble("  ", mark(finding.status, finding.id))
    observed = finding.observed if isinstance(finding.observed, list) else [finding.observed]
    message = finding.message
    if message == f"expected {finding.expected}, observed {finding.observed}":
        message = ""
    for value in observed:  # what is listed below is not told twice
        if isinstance(value, str) and len(value) > 20 and message.endswith(value):
            message = message.removesuffix(value).rstrip(": ")
    if message:
        yield _line("", message, console, 4)
    if finding.expected is not None or finding.observed is not None:
        yield _line("expected", _value(finding.expected, console), console, 4)
        for place, value in enumerate(observed or ["nothing"]):
            yield _line("observed" if place == 0 else "", _value(value, console), console, 4, 10)
    for label, value in triage.lines(finding):
        yield _line(label, value, console, 4)
    if finding.hint:
        yield _line("hint", finding.hint, console, 4)
    if ACTIONS[finding.action]:
        yield _line("action", ACTIONS[finding.action], console, 4)


def _value(value: Any, console: Console) -> str:
    """A value: shortened on a terminal alone, where it would push the verdict out of sight."""
    return short(value) if console.is_terminal else plain(value)


def _line(
    label: str, text: str, console: Console, indent: int, hang: int | None = None
) -> RenderableType:
    """A labelled line; on a terminal its further lines hang below its text."""
    hang = (10 if label else 0) if hang is None else hang
    name = f"{label:<{hang}}"
    content = clean(text).strip()
    if not console.is_terminal:
        first, *rest = content.splitlines() or [""]
        below = "".join(f"\n{' ' * (indent + hang)}{line}" for line in rest)
        return Text(f"{' ' * indent}{name}{first}{below}")
    if not hang:
        return Padding(Text(content), (0, 0, 0, indent))
    grid = Table.grid(padding=0)
    grid.add_column(width=hang, style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(name, Text(content))
    return Padding(grid, (0, 0, 0, indent))


def _not_run(report: Report) -> list[RenderableType]:
    if not report.not_run:
        return []
    lines: list[RenderableType] = [mark("error", "not run")]
    lines += [Text(f"    {one.probe} on {one.device}: {one.reason}") for one in report.not_run]
    return [*lines, ""]


def _verdict(report: Report) -> Text:
    """The last line: the first thing that is wrong, or how much was proven; and the time taken."""
    text = clean(full_summary(report.results, report.not_run))
    return mark(report.status, text).append(f" · {report.duration_s:.1f} s")

"""A selftest as text, JSON or JUnit XML, and its list of faults."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal
from xml.etree import ElementTree as ET

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from probes.contract import Status
from probes.faults.fault import Fault, Where
from probes.faults.table import BY_NAME as FAULT_BY_NAME
from validator.render import junit as junit_of_reports
from validator.render.console import clean, mark, table, text_of
from validator.render.drawing import never_waiting
from validator.selftest.verdicts import Score, Selftest, Trial

#: Forms of a selftest.
Form = Literal["text", "json", "junit"]

#: A verdict's mark, by the status whose colour it has.
_STATUS = {"caught": "pass", "survived": "fail", "elsewhere": "skip", "not_run": "skip"}
_WORDS = {"elsewhere": "not here", "not_run": "not run"}


def document(selftest: Selftest, output: Form, console: Console, *, quiet: bool = False) -> str:
    """The selftest in one of the forms; `quiet` leaves the text what is wrong, and verdict."""
    if output == "json":
        return selftest.model_dump_json() + "\n"
    if output == "junit":
        return junit(selftest)
    return text(selftest, console, quiet=quiet)


def text(selftest: Selftest, console: Console, *, quiet: bool = False) -> str:
    """The matrix: what was broken, which check had to say so, whether it did, and what else did."""
    shown = [trial for trial in selftest.trials if not quiet or trial.verdict == "survived"]
    rows = [
        (
            trial.fault,
            trial.device,
            mark(_STATUS[trial.verdict], _WORDS.get(trial.verdict, trial.verdict)),  # type: ignore[arg-type]
            f"{trial.duration_s:.2f} s" if trial.duration_s else "",
            _checks_text(trial),
        )
        for trial in shown
    ]
    parts: list[RenderableType] = []
    if rows:
        parts += table(console, ("fault", "device", "verdict", "time", "by the checks"), rows)
        parts += [_legend(shown), ""]
    if selftest.control or not quiet:
        parts += [*_control(selftest), ""]
    if not quiet:
        parts += table(console, ("probe", "caught"), [_score(score) for score in selftest.scores])
    if selftest.rivals and not quiet:
        heads = ("rule, on the faults of operations and copies", "caught", "met by its own work")
        parts += [
            "",
            *table(console, heads, [(*_score(score), "all")[:3] for score in selftest.rivals]),
        ]
    verdict = _verdict(selftest)
    line = f"{verdict}: {selftest.summary} ({selftest.duration_s:.1f} s)"
    return text_of(console, *parts, *([] if quiet else [""]), mark(verdict, line))


def _legend(shown: Sequence[Trial]) -> RenderableType:
    """What the column `device` means, as far as it occurs."""
    faults = [FAULT_BY_NAME[trial.fault] for trial in shown if trial.fault in FAULT_BY_NAME]
    pretended = sorted({fault.device for fault in faults if fault.where == "node"})
    told = ["device: where the fault was injected, and the probes under it ran"]
    if any(fault.where in {"host", "worker"} for fault in faults):
        told.append("cpu also stands for the host: its image, its settings, its processes")
    if pretended:
        names = ", ".join(pretended)
        told.append(f"{names} is none of this machine's: a node of two GPUs is pretended")
    return Padding(Text("; ".join(told), style="dim"), 0)


def _verdict(selftest: Selftest) -> Status:
    """`error` where nothing is wrong in what was judged, and not everything was."""
    wrong = selftest.control or any(trial.verdict == "survived" for trial in selftest.trials)
    if wrong:
        return "fail"
    return "pass" if selftest.complete else "error"


def _checks_text(trial: Trial) -> str:
    """The checks that tripped; of one that survived, why."""
    if trial.text:
        return clean(trial.text)
    names, last = [], ""
    for check in trial.expected:
        probe, _, name = check.partition(".")
        names.append(name if probe == last else check)
        last = probe
    return (", ".join(names) or "the result's reason") + (
        f" (+{len(trial.also)} more)" if trial.also else ""
    )


def _control(selftest: Selftest) -> list[Text]:
    if not selftest.control:
        return [mark("pass", "control: without a fault nothing tripped")]
    lines = [mark("fail", "control: tripped without a fault, so that no verdict above counts:")]
    return lines + [Text(f"  {each}") for each in selftest.control]


def _score(score: Score) -> tuple[str, ...]:
    share = 100 * score.caught // score.faults  # rounded down: 100 % means all of them
    caught = f"{score.caught} of {score.faults} ({share} %)"
    return (score.name, caught) if score.met is None else (score.name, caught, str(score.met))


def junit(selftest: Selftest) -> str:
    """A suite a device, a case a fault; one more suite for the control."""
    root = ET.Element("testsuites", name="gpu-validator selftest")
    control = ET.SubElement(root, "testsuite", name="control")
    case = ET.SubElement(control, "testcase", classname="control", name="nothing trips")
    if selftest.control:
        message = junit_of_reports.xml_text("; ".join(selftest.control))
        ET.SubElement(case, "failure", type="control", message=message)
    for device in dict.fromkeys(trial.device for trial in selftest.trials):
        suite = ET.SubElement(root, "testsuite", name=device, hostname=selftest.host)
        for trial in selftest.trials:
            if trial.device == device:
                suite.append(_case(trial))
    for suite in (*root, root):
        junit_of_reports.count(suite)
    root.set("time", f"{selftest.duration_s:.3f}")
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _case(trial: Trial) -> ET.Element:
    case = ET.Element(
        "testcase", classname=trial.kind, name=trial.fault, time=f"{trial.duration_s:.3f}"
    )
    message = junit_of_reports.xml_text(trial.text)
    if trial.verdict == "survived":
        ET.SubElement(case, "failure", type="survived", message=message)
    elif trial.verdict != "caught":
        ET.SubElement(case, "skipped", type=trial.verdict, message=message)
    return case


def fault_list(faults: Sequence[Fault], output: Form, console: Console) -> str:
    """The faults, what each stands for, and what it must trip."""
    if output == "json":
        return json.dumps([_entry(fault) for fault in faults], indent=2) + "\n"
    rows = [(fault.name, fault.where, ", ".join(fault.trips) or fault.reason) for fault in faults]
    kinds = Counter(fault.kind for fault in faults)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    lines = table(console, ("fault", "where", "must trip"), rows)
    places = {fault.where for fault in faults}
    told = "; ".join(f"{where}: {text}" for where, text in _WHERE.items() if where in places)
    legend = Padding(Text(f"where: {told}", style="dim"), 0)
    return text_of(console, *lines, "", legend, Text(f"{len(faults)} faults: {counted}"))


#: Where a fault is injected, in words.
_WHERE: Final[dict[Where, str]] = {
    "any": "on each device",
    "cpu": "on the CPU alone",
    "accelerator": "on each device but the CPU",
    "host": "once, under probes that need no device",
    "node": "once, on a pretended node of two GPUs",
    "worker": "once, in an import of torch of its own",
}


def _entry(fault: Fault) -> dict[str, object]:
    return {
        "fault": fault.name,
        "kind": fault.kind,
        "where": fault.where,
        "stands_for": fault.event.text,
        "source": fault.event.source,
        "probes": fault.probes,
        "trips": fault.trips,
        "spares": fault.spares,
        "reason": fault.reason,
    }


@contextmanager
def live(console: Console) -> Iterator[Callable[[Trial, int], None]]:
    """One line on a terminal while the trials go on, and nothing of it left behind."""
    progress = Progress(
        TextColumn("faults"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}"),
        console=console,
        transient=True,
        refresh_per_second=4,
    )
    survived: list[str] = []
    with never_waiting(console), progress:
        task = progress.add_task("", total=None, what="healthy control")

        def on_trial(trial: Trial, total: int) -> None:
            survived.extend([trial.fault] if trial.verdict == "survived" else [])
            bad = f" ({len(survived)} survived)" if survived else ""
            progress.update(task, total=total, advance=1, what=f"{trial.fault}{bad}")

        yield on_trial

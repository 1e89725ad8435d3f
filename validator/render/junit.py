"""A report as JUnit XML: a test suite a device, a test case a check."""

import re
from xml.etree import ElementTree as ET

from probes.contract import Finding, Result, Status
from validator import triage
from validator.report import Report

#: What XML 1.0 cannot hold, not even escaped.
_FORBIDDEN = re.compile(r"[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")

#: The element that tells of a status; a warning is a test that passed, with its text as output.
_ELEMENTS: dict[Status, str] = {
    "fail": "failure",
    "error": "error",
    "skip": "skipped",
    "warn": "system-out",
}


def render(report: Report) -> str:
    """The report for a CI server."""
    root = ET.Element("testsuites", name="gpu-validator")
    devices = [result.device for result in report.results]
    devices += [one.device for one in report.not_run]
    for device in dict.fromkeys(devices):
        root.append(_suite(report, device))
    count(root)
    root.set("time", f"{report.duration_s:.3f}")
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(report: Report, device: str) -> ET.Element:
    results = [result for result in report.results if result.device == device]
    suite = ET.Element(
        "testsuite",
        name=xml_text(device),
        hostname=xml_text(report.host),
        timestamp=report.started_at.isoformat(timespec="seconds"),
        time=f"{sum(result.duration_s for result in results):.3f}",
    )
    for result in results:
        suite.extend(_cases(result))
    for one in report.not_run:
        if one.device == device:
            case = _case(one.probe, "runs")
            ET.SubElement(case, "error", type=one.reason, message=f"not run: {one.reason}")
            suite.append(case)
    count(suite)
    return suite


def _cases(result: Result) -> list[ET.Element]:
    """A case a check; one more named `runs` where no check tells what the probe came to."""
    cases = [_check(result, finding) for finding in result.findings]
    if not any(finding.status == result.status for finding in result.findings):
        case = _case(result.probe, "runs")
        text = result.log_tail
        if result.error is not None:
            text = f"{result.error.traceback or result.error.message}\n{text}"
        _tell(case, result.status, result.reason, result.summary, text)
        cases.append(case)
    return cases


def _check(result: Result, finding: Finding) -> ET.Element:
    case = _case(result.probe, finding.id.partition(".")[2] or finding.id)
    details = {
        "expected": finding.expected,
        "observed": finding.observed,
        **dict(triage.lines(finding)),
        "hint": finding.hint,
        "action": finding.action if finding.action != "none" else "",
    }
    told = "\n".join(f"{name}: {value}" for name, value in details.items() if value != "")
    reason = "not_applicable" if finding.status == "skip" else result.reason
    _tell(case, finding.status, reason, finding.message, told)
    return case


def _case(probe: str, name: str) -> ET.Element:
    return ET.Element("testcase", classname=xml_text(probe), name=xml_text(name))


def _tell(case: ET.Element, status: Status, reason: str, message: str, text: str) -> None:
    if status == "pass":
        return
    element = ET.SubElement(case, _ELEMENTS[status])
    if status == "warn":
        element.text = xml_text(f"warn: {message}\n{text}")
        return
    element.set("type", reason)
    element.set("message", xml_text(message or reason))
    if status != "skip":
        element.text = xml_text(text)


def count(parent: ET.Element) -> None:
    """The sums that every reader of this format shows first."""
    cases = list(parent.iter("testcase"))
    parent.set("tests", str(len(cases)))
    for name, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        parent.set(name, str(sum(case.find(element) is not None for case in cases)))


def xml_text(text: str) -> str:
    """The text without what XML cannot hold."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)

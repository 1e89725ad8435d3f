"""Readers take what other versions write: older ones, whose files are kept, and newer ones."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from probes.catalog import BY_NAME
from tests.validator import reports
from validator.reader import read_report
from validator.report import Report, Tool, overall, to_json
from validator.service.latest import Latest
from validator.service.metrics import PREFIX, Shown, families
from validator.service.schedule import timings
from validator.settings.loading import load
from validator.settings.model import Settings

GOLDEN = Path(__file__).parents[1] / "golden"
RELEASES = sorted(file.parent for file in GOLDEN.glob("*/settings.yaml"))


@pytest.fixture(params=RELEASES, ids=lambda folder: folder.name)
def release(request: pytest.FixtureRequest) -> Path:
    """The files that a release left."""
    folder: Path = request.param
    return folder


def test_a_release_is_kept() -> None:
    """The first one at least: a table without rows would prove nothing."""
    assert (GOLDEN / "0.1.0") in RELEASES


# -- what older versions wrote --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["report.json", "sick.json"])
def test_a_report_of_a_release_is_read(release: Path, name: str) -> None:
    """Every result with its status; nothing of it is unknown, so nothing is read as an error."""
    text = (release / name).read_text(encoding="utf-8")
    written = json.loads(text)
    report = read_report(text)

    assert report.tool.version == release.name
    assert [(one.probe, one.device, one.status, one.reason) for one in report.results] == [
        (one["probe"], one["device"], one["status"], one["reason"]) for one in written["results"]
    ]
    assert report.status == overall(report.results, report.not_run) == written["status"]
    assert report.host == "node-17"


def test_the_settings_of_a_release_still_hold(release: Path) -> None:
    """Every key that it had has its place, and a value that is not the default."""
    file = release / "settings.yaml"
    settings = load(file)

    assert timings(settings, BY_NAME.values())
    kept, default = settings.model_dump(), Settings().model_dump()
    unchanged = [
        f"{section}.{key}"
        for section, given in yaml.safe_load(file.read_text(encoding="utf-8")).items()
        for key in given
        if kept[section][key] == default[section].get(key)
    ]
    assert unchanged == []


def test_the_rules_of_a_release_find_their_metrics(release: Path) -> None:
    """A fleet upgrades its validators and its rules on different days."""
    rules = "\n".join(file.read_text(encoding="utf-8") for file in (release / "rules").iterdir())
    asked = set(re.findall(rf"\b{PREFIX}\w+", rules))
    recorded = {name for name in asked if re.search(rf"record: \S*:{name}:", rules)}

    assert len(asked) > 8
    assert asked - recorded - _exposed() == set()


def _exposed() -> set[str]:
    """Names of all series that a daemon of this version exposes."""
    latest = Latest()
    latest.limit(dict.fromkeys(BY_NAME, 60.0))
    latest.accept(reports.node())
    shown = Shown(timeout_s=dict.fromkeys(BY_NAME, 1.0), interval_s=dict.fromkeys(BY_NAME, 1.0))
    return {sample.name for family in families(latest, shown, Tool()) for sample in family.samples}


# -- what newer versions will write ---------------------------------------------------------------


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of a document that is a model of ours, the innermost first."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "patterns":  # of operations
                yield from (pattern for pattern in part.values())
            elif key not in {"observation", "observed", "expected", "wrong"}:
                yield from mappings(part)
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from mappings(part)


def test_unknown_fields_are_left_out_wherever_they_stand() -> None:
    """The report is the one that this version knows."""
    sick = reports.sick()
    document = json.loads(to_json(sick))
    for mapping in list(mappings(document)):
        mapping["added_later"] = {"status": "splendid", "list": [1, None]}

    assert len(list(mappings(document))) > 15
    assert read_report(json.dumps(document)).model_dump_json() == sick.model_dump_json()
    with pytest.raises(ValidationError):  # so that the schema of what we write stays closed
        Report.model_validate_json(json.dumps(document))


def test_an_unknown_word_is_read_as_could_not_tell() -> None:
    """Never as a pass: nothing is known of what it means."""
    document = json.loads(to_json(reports.sick()))
    document["trigger"] = document["status"] = "later"
    document["not_run"][0]["reason"] = "later"
    for result in document["results"]:
        result["status"] = result["reason"] = "later"
        for finding in result["findings"]:
            finding["status"] = finding["action"] = "later"
            for pattern in finding.get("patterns", {}).values():
                pattern["second_read"] = "later"
            if "triage" in finding:
                finding["triage"] |= {"kind": "later", "location": "later"}
    report = read_report(json.dumps(document))

    assert report.status == "error"
    assert {(one.status, one.reason) for one in report.results} == {("error", "internal_error")}
    findings = [finding for one in report.results for finding in one.findings]
    assert {(one.status, one.action) for one in findings} == {("error", "investigate")}
    assert {
        (finding.triage.kind, finding.triage.location, *(p.second_read for p in patterns))
        for finding in findings
        if finding.triage is not None and (patterns := finding.patterns.values())
    } == {("unknown", "unknown", "unknown")}
    assert (report.trigger, report.not_run[0].reason) == ("merged", "cancelled")
    assert overall(report.results) == "error"


def test_an_unknown_reason_leaves_the_status() -> None:
    """A newer version may fail for a reason of its own: it is a fail all the same."""
    document = json.loads(to_json(reports.sick()))
    failed = next(one for one in document["results"] if one["status"] == "fail")
    failed["reason"] = "later"
    read = read_report(json.dumps(document))

    assert [one.status for one in read.results] == [one.status for one in reports.sick().results]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '"x"', "null", '{"results": {}}', '{"results": [1]}', "\x00", "NaN"]
)
def test_what_is_no_report_is_refused(text: str) -> None:
    """A reader is lenient with what is added, not with what is missing."""
    with pytest.raises(ValueError):  # noqa: PT011 - of any text
        read_report(text)


def test_values_that_json_lacks_survive() -> None:
    """NaN is when a GPU is at fault."""
    report = read_report(to_json(reports.sick()))

    assert report.model_dump_json() == reports.sick().model_dump_json()

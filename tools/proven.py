"""Write probes/proven.json from the reports recorded on real hardware, in tests/golden/reports/.

Usage: python tools/proven.py [--check]

Each recorded observation is judged again by today's rules: a check is proven on a type of back-end
when it passed there and still does, with the operations that it compared.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from probes.catalog import BY_NAME
from probes.contract import COMPLETES, Comparison, Finding, Observation, Result
from probes.kit.backend import cuda_type
from probes.worker.proven import PROVEN_FILE, TESTED
from validator.report import Device, Report

RECORDINGS: Final = Path(__file__).parents[1] / "tests" / "golden" / "reports"

#: Back-end type -> check -> what it passed `on`, and the `operations` that it compared.
Table = dict[str, dict[str, dict[str, list[str]]]]


def recordings() -> Iterator[Report]:
    """The recorded reports, by the names of their files."""
    for file in sorted(RECORDINGS.glob("*.json")):
        yield Report.model_validate_json(file.read_text(encoding="utf-8"))


def observed(result: Result) -> Observation:
    """A recorded result's observation, read as its probe's own."""
    module = importlib.import_module(BY_NAME[result.probe].module)
    seen: Observation = module.Observation.model_validate(result.observation)
    return seen


def judged(result: Result) -> tuple[Finding, ...]:
    """What today's rules say of a recorded result."""
    module = importlib.import_module(BY_NAME[result.probe].module)
    return tuple(module.judge(observed(result)))


def compared(seen: Observation, check: str) -> list[str]:
    """The operations, or facts, that an observation holds for a check; none for a plain one."""
    fields = seen.model_dump()
    groups = [fields.get(name, {}) for name in ("families", "comparisons", "facts")]
    found = [group[check] for group in groups if isinstance(group, dict) and check in group]
    own = fields.get(check)
    found += [own["comparisons"]] if isinstance(own, dict) and "comparisons" in own else []
    found += [own] if isinstance(own, tuple) else []
    names: dict[str, None] = {}
    for each in found:
        for item in each:
            label = item if isinstance(item, str) else Comparison.model_validate(item).name
            names[label] = None
    return list(names)


def backend(result: Result, report: Report) -> str:
    """The type of back-end that a result is about."""
    accelerators = [device for device in report.devices if device.type != "cpu"]
    device = next((one for one in accelerators if one.name == result.device), None)
    if device is None and BY_NAME[result.probe].about_node and accelerators:
        device = accelerators[0]
    return TESTED if device is None else device.backend or _earlier(device)


def _earlier(device: Device) -> str:
    """The type of a device in a report that does not name it yet."""
    major, _, minor = (device.capability or "0.0").partition(".")
    return cuda_type((int(major), int(minor)))


def table() -> Table:
    """What the recordings prove."""
    proven: Table = {}
    for report in recordings():
        for result in report.results:
            kind = backend(result, report)
            if kind == TESTED or result.observation is None:
                continue
            device = next(one for one in report.devices if one.type != "cpu")
            on = f"{device.model_name}, torch {report.environment.torch}"
            seen = observed(result)
            # A check that came later passes by the defaults of what nobody observed.
            then = {finding.id for finding in result.findings if finding.status == "pass"}
            now = [finding.id for finding in judged(result) if finding.status == "pass"]
            passed = [check for check in now if check in then]
            for check in (*passed, f"{result.probe}.{COMPLETES}"):
                operations = compared(seen, check.partition(".")[2])
                _add(proven.setdefault(kind, {}), check, on, operations)
    return proven


def _add(checks: dict[str, dict[str, list[str]]], check: str, on: str, names: list[str]) -> None:
    entry = checks.setdefault(check, {"on": [], "operations": []})
    entry["on"] += [on] if on not in entry["on"] else []
    entry["operations"] = sorted({*entry["operations"], *names})


def document() -> str:
    """The file's text: a line a check."""
    kinds = []
    for kind, checks in sorted(table().items()):
        lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in checks.items()]
        kinds.append(f" {json.dumps(kind)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(kinds) + "\n}\n"


def main() -> int:
    """Write the file, or say whether it is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    only_check = parser.parse_args().check
    text = document()
    if only_check:
        return int(PROVEN_FILE.read_text(encoding="utf-8") != text)
    PROVEN_FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

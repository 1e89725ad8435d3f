"""Write probes/proven.json from the reports recorded on real hardware, in tests/golden/reports/.

Usage: python tools/proven.py [--check]

Each recorded observation is judged again by the current rules. A check is proven on a type of
back-end when it passed in the recording and still passes, with the operations that it compared.
"""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from probes.catalog import BY_NAME
from probes.contract import COMPLETES, Comparison, Finding, Observation, Result
from probes.kit.backend import cuda_type
from probes.worker.proven import PROVEN_FILE, TESTED
from validator.report import Device, Report

_WHOLE: Final = re.compile(r"whole \d+ B")

RECORDINGS: Final = Path(__file__).parents[1] / "tests" / "golden" / "reports"

#: Back-end type -> check -> what it passed `on`, and the `operations` that it compared.
Table = dict[str, dict[str, dict[str, list[str]]]]


class Moved(NamedTuple):
    """The earlier id of a check, and the operations that moved; None: all of them."""

    id: str
    operations: frozenset[str] | None = None


#: Check -> where it was recorded before it moved to another probe: it runs the same trials.
MOVED: Final[dict[str, Moved]] = {
    "special_functions.divisors": Moved("tensor_ops.integer_division", frozenset({"gcd", "lcm"})),
    "special_functions.functions": Moved(
        "tensor_ops.elementwise", frozenset({"exp2", "erfc", "lgamma"})
    ),
    "special_functions.limits": Moved("tensor_ops.special_values", frozenset({"erfc"})),
    "special_functions.complex_numbers": Moved("tensor_ops.complex_numbers"),
    "gradcheck.defaults": Moved("autograd.gradcheck"),
    "gradcheck.tight": Moved("autograd.gradcheck_tight"),
    "gradcheck.second_order": Moved("autograd.gradgradcheck"),
    "gradcheck.batched": Moved("autograd.batched"),
    "gradcheck.vector_jacobian": Moved("autograd.vector_jacobian"),
    "gradcheck.vector_refused": Moved("autograd.vector_refused"),
    "linalg.solve": Moved("tensor_ops.linalg_solve"),
    "linalg.decompose": Moved("tensor_ops.linalg_decompose"),
}


def recordings() -> Iterator[Report]:
    """Yield the recorded reports, in the order of their file names."""
    for file in sorted(RECORDINGS.glob("*.json")):
        yield recording(file)


def recording(file: Path) -> Report:
    """A recorded report; checks that have moved since stand where they are now."""
    report = Report.model_validate_json(file.read_text(encoding="utf-8"))
    results = [part for result in report.results for part in _parts(result)]
    return report.model_copy(update={"results": tuple(results)})


def _parts(result: Result) -> Iterator[Result]:
    """A recorded result without the checks that moved, and one for each probe that has them now."""
    observation = result.observation or {}
    moves = {
        check: moved
        for check, moved in MOVED.items()
        if moved.id.partition(".")[0] == result.probe and _was_before(observation, moved)
    }
    whole = {moved.id for moved in moves.values() if moved.operations is None}
    yield result.model_copy(
        update={
            "findings": tuple(each for each in result.findings if each.id not in whole),
            "observation": _without(result.observation, {each.partition(".")[2] for each in whole}),
        }
    )
    for probe in dict.fromkeys(check.partition(".")[0] for check in moves):
        own = {check: moved for check, moved in moves.items() if check.startswith(f"{probe}.")}
        recorded = {finding.id: finding for finding in result.findings}
        findings = tuple(
            recorded[moved.id].model_copy(update={"id": check})
            for check, moved in own.items()
            if moved.id in recorded
        )
        yield result.model_copy(
            update={
                "probe": probe,
                "findings": findings,
                "observation": _moved_observation(observation, own),
            }
        )


def _was_before(observation: dict[str, Any], moved: Moved) -> bool:
    """Whether it was recorded before the check, or these operations of it, moved."""
    old = moved.id.partition(".")[2]
    groups = [observation[group] for group in _BY_CHECK if old in observation.get(group, ())]
    recorded = [group[old] if isinstance(group, dict) else True for group in groups]
    return any(not isinstance(each, list) or _selected(each, moved.operations) for each in recorded)


def _without(observation: dict[str, Any] | None, checks: set[str]) -> dict[str, Any] | None:
    """The observation without its families and facts of some checks."""
    if observation is None:
        return None
    return {
        key: {name: each for name, each in value.items() if name not in checks}
        if key in {"families", "facts"}
        else value
        for key, value in observation.items()
    }


#: Where an observation holds something by check.
_BY_CHECK: Final = ("families", "facts", "lacking", "not_implemented")


def _moved_observation(observation: dict[str, Any], moves: dict[str, Moved]) -> dict[str, Any]:
    """The observation of a probe whose checks were another's, under their names of today."""
    found = {key: value for key, value in observation.items() if key not in _BY_CHECK}
    for check, moved in moves.items():
        new, old = check.partition(".")[2], moved.id.partition(".")[2]
        for group in set(_BY_CHECK).intersection(observation):
            recorded = observation[group]
            if old not in recorded:
                continue
            if isinstance(recorded, dict):
                found.setdefault(group, {})[new] = _selected(recorded[old], moved.operations)
            else:
                found.setdefault(group, []).append(new)
    return found


def _selected(recorded: Any, operations: frozenset[str] | None) -> Any:
    """The comparisons of these operations, or whatever was recorded where all have moved."""
    if operations is None or not isinstance(recorded[0], dict):
        return recorded
    return [each for each in recorded if Comparison.model_validate(each).name in operations]


def observation_of(result: Result) -> Observation:
    """The observation of a recorded result, as its probe's model."""
    module = importlib.import_module(BY_NAME[result.probe].module)
    observation: Observation = module.Observation.model_validate(result.observation)
    return observation


def findings_of(result: Result) -> tuple[Finding, ...]:
    """The findings for a recorded result by the current rules."""
    module = importlib.import_module(BY_NAME[result.probe].module)
    return tuple(module.judge(observation_of(result)))


def operation_names(observation: Observation, check: str) -> list[str]:
    """The names of the operations, or facts, that an observation has for a check; may be empty."""
    fields = observation.model_dump()
    groups = [fields.get(name, {}) for name in ("families", "comparisons", "facts")]
    found = [group[check] for group in groups if isinstance(group, dict) and check in group]
    own = fields.get(check)
    found += [own["comparisons"]] if isinstance(own, dict) and "comparisons" in own else []
    found += [own] if isinstance(own, tuple) else []
    names: dict[str, None] = {}
    for each in found:
        for item in each:
            label = item if isinstance(item, str) else Comparison.model_validate(item).name
            # Recordings of before name the buffer's size, which is no other operation.
            names[_WHOLE.sub("whole buffer", label)] = None
    return list(names)


def backend(result: Result, report: Report) -> str:
    """The type of back-end that a result is about."""
    accelerators = [device for device in report.devices if device.type != "cpu"]
    device = next((device for device in accelerators if device.name == result.device), None)
    if device is None and BY_NAME[result.probe].about_node and accelerators:
        device = accelerators[0]
    return TESTED if device is None else device.backend or _derived_backend(device)


def _derived_backend(device: Device) -> str:
    """The type of back-end in an older report, which does not name it."""
    major, _, minor = (device.capability or "0.0").partition(".")
    return cuda_type((int(major), int(minor)))


def table() -> Table:
    """The table of what the recordings prove."""
    proven: Table = {}
    for report in recordings():
        for result in report.results:
            kind = backend(result, report)
            if kind == TESTED or result.observation is None:
                continue
            device = next(device for device in report.devices if device.type != "cpu")
            on = f"{device.model_name}, torch {report.environment.torch}"
            observation = observation_of(result)
            # A check added later passes on defaults, since nothing was observed for it.
            passed_then = {finding.id for finding in result.findings if finding.status == "pass"}
            passed_now = [finding.id for finding in findings_of(result) if finding.status == "pass"]
            passed = [check for check in passed_now if check in passed_then]
            for check in (*passed, f"{result.probe}.{COMPLETES}"):
                operations = operation_names(observation, check.partition(".")[2])
                _add(proven.setdefault(kind, {}), check, on, operations)
    return proven


def _add(checks: dict[str, dict[str, list[str]]], check: str, on: str, names: list[str]) -> None:
    entry = checks.setdefault(check, {"on": [], "operations": []})
    entry["on"] += [on] if on not in entry["on"] else []
    entry["operations"] = sorted({*entry["operations"], *names})


def document() -> str:
    """The text of the file, one line for each check."""
    kinds = []
    for kind, checks in sorted(table().items()):
        lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in checks.items()]
        kinds.append(f" {json.dumps(kind)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(kinds) + "\n}\n"


def main() -> int:
    """Write the file; with `--check` only return whether it is stale."""
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

"""One ranking, one summary line, one exit code; and the document survives its round trip."""

import json

import jsonschema_rs
import pytest

from probes.contract import Finding, Result
from tests.validator import reports
from validator.report import (
    NotRun,
    Report,
    exit_code,
    fitting,
    flat,
    full_summary,
    host_name,
    json_schema,
    overall,
)

LOST = NotRun(probe="autograd", device="cpu", reason="run_timeout")


@pytest.mark.parametrize(
    ("statuses", "not_run", "worst"),
    [
        (["pass", "skip"], [], "pass"),
        (["pass", "warn"], [], "warn"),
        (["warn", "error"], [], "error"),
        (["error", "fail", "pass"], [], "fail"),
        (["skip", "skip"], [], "error"),
        ([], [], "error"),
        (["pass"], [LOST], "error"),
        (["fail"], [LOST], "fail"),
    ],
)
def test_overall_is_the_worst(statuses: list[str], not_run: list[NotRun], worst: str) -> None:
    """Absence is never health: nothing passed, or a lost chance, is `error`."""
    results = [reports.result("autograd", status=status) for status in statuses]

    assert overall(results, not_run) == worst


#: Status of the one result -> exit codes: default, nagios, strict, fail open.
CODES = {
    "pass": (0, 0, 0, 0),
    "warn": (0, 1, 1, 0),
    "fail": (1, 2, 1, 1),
    "error": (2, 3, 2, 0),
    "skip": (2, 3, 2, 0),
}


@pytest.mark.parametrize("status", CODES)
def test_exit_codes(status: str) -> None:
    """Every status in every style."""
    made = reports.report([reports.result("autograd", status=status)])
    codes = (
        exit_code(made),
        exit_code(made, style="nagios"),
        exit_code(made, strict=True),
        exit_code(made, fail_open=True),
    )

    assert codes == CODES[status]


def test_strict_refuses_a_skip_beside_a_pass() -> None:
    """`--strict`: what was not looked at is not good enough."""
    made = reports.report([reports.result("autograd"), reports.result("tensor_ops", status="skip")])

    assert (exit_code(made), exit_code(made, strict=True)) == (0, 1)
    assert exit_code(made, strict=True, style="nagios") == 2


def test_fail_open_does_not_hide_a_fail() -> None:
    """A fail beside a lost chance is still a fail."""
    made = reports.report([reports.result("autograd", status="fail")], [LOST])

    assert exit_code(made, fail_open=True) == 1


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (reports.sound(), "pass: 2 probes, 1 skipped (no GPU here: checked on the CPU)"),
        (
            reports.report(
                [
                    reports.result("torch_version"),
                    *(reports.result("autograd", f"cuda:{index}") for index in range(8)),
                ]
            ),
            "pass: 2 probes on 8 GPUs",
        ),
        (
            reports.report(
                [reports.result("autograd", name) for name in ("cuda:0:0", "cuda:0:1", "cuda:1")]
            ),
            "pass: 1 probe on 3 devices",
        ),
        (reports.report([reports.result("autograd")]), "pass: 1 probe"),
        (
            reports.report(
                [
                    reports.result("tensor_ops", "cuda:0"),
                    reports.result("dtypes", "cuda:0", "skip", reason="not_applicable"),
                    reports.result("linalg", "cuda:0", "skip", reason="gpu_busy"),
                ]
            ),
            "pass: 1 probe on 1 GPU, 2 skipped, 1 for a busy GPU",
        ),
        (
            reports.report([reports.result("autograd", status="skip", reason="gpu_busy")]),
            "error: nothing could be told: 1 skipped (gpu_busy)",
        ),
        (reports.report([]), "error: nothing could be told: no probe was planned"),
        (
            reports.report([reports.result("autograd")], [LOST]),
            "error: 1 of 2 not run (run_timeout)",
        ),
        (
            reports.report(
                [
                    reports.result("autograd", "cuda:3", "fail", summary="detach: wrong"),
                    reports.result("tensor_ops", "cuda:3", "fail", summary="matmul: wrong"),
                    reports.result("tensor_ops", "cuda:4", "error", summary="ours"),
                ]
            ),
            "fail: autograd on cuda:3 (+1 more): detach: wrong",
        ),
    ],
)
def test_summary(made: Report, line: str) -> None:
    """One line that says the first thing that is wrong, or how much was proven."""
    assert made.summary == line


LONG = "no word of this is ever cut " * 8


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (
            reports.result("tensor_ops", "cuda:0", "fail", summary=f"matmul: wrong: {LONG}"),
            "fail: tensor_ops on cuda:0 (+1 more): matmul: wrong",
        ),
        (
            reports.result(
                "tensor_ops",
                "cuda:0",
                "fail",
                summary=LONG,
                findings=(
                    Finding(id="tensor_ops.creation", status="pass"),
                    Finding(id="tensor_ops.sorting", status="fail"),
                ),
            ),
            "fail: tensor_ops on cuda:0 (+1 more): sorting",
        ),
        (
            reports.result("tensor_ops", "cuda:0", "fail", reason="crashed", summary=LONG),
            "fail: tensor_ops on cuda:0 (+1 more): crashed",
        ),
        (
            reports.result("device_transfer", f"MIG-{'0' * 36}", "fail", reason="timeout"),
            f"fail: device_transfer on MIG-{'0' * 36}: timeout",
        ),
        (
            reports.result("device_transfer", f"MIG-{'0' * 48}", "fail", summary=LONG),
            f"fail: device_transfer on MIG-{'0' * 48}",
        ),
        (reports.result("device_transfer", LONG, "fail", summary=LONG), "fail: device_transfer"),
    ],
)
def test_a_summary_that_does_not_fit_is_shorter_and_cuts_no_word(result: Result, line: str) -> None:
    """It names probe, device and check, as far as there is room; the whole text is told beside."""
    made = reports.report([result, reports.result("autograd", "cuda:0", "fail")])

    assert made.summary == line
    assert len(made.summary) <= 80
    whole = full_summary(made.results)
    assert whole == flat(f"fail: {result.probe} on {result.device} (+1 more): {result.summary}")


def test_many_reasons_give_way_to_the_count() -> None:
    """A list of reasons that does not fit is left out, not cut."""
    reasons = ("gpu_busy", "no_device", "not_applicable", "disabled", "dependency")
    made = reports.report(
        [reports.result("autograd", f"cuda:{n}", "skip", reason=r) for n, r in enumerate(reasons)]
    )

    assert made.summary == "error: nothing could be told: 5 skipped"
    assert full_summary(made.results).endswith("5 skipped (" + ", ".join(sorted(reasons)) + ")")


def test_a_line_is_printable() -> None:
    """Node conditions and logs show no control codes."""
    line = flat("x\x1b[31m\n\ty " + "z" * 100)

    assert line == "x [31m y " + "z" * 100
    assert fitting(line, "x\ny", "z") == "x y"
    assert fitting(line, line) == line


def test_round_trip_keeps_nan() -> None:
    """A GPU fault is exactly when NaN appears: the document holds it and loads again."""
    made = reports.sick()
    document = made.model_dump_json()
    again = Report.model_validate_json(document)

    assert again.model_dump_json() == document
    assert '"value":"NaN"' in document
    assert again.results[2].measurements[0].value != again.results[2].measurements[0].value


@pytest.mark.parametrize("made", [reports.sound(), reports.sick()])
def test_documents_fit_their_schema(made: Report) -> None:
    """The published schema accepts what we write, NaN included."""
    jsonschema_rs.validator_for(json_schema()).validate(json.loads(made.model_dump_json()))


def test_schema_refuses_another_document() -> None:
    """The schema is closed: a wrong status, or a key of nobody's, does not fit."""
    validator = jsonschema_rs.validator_for(json_schema())
    document = json.loads(reports.sound().model_dump_json())

    assert not validator.is_valid({**document, "status": "fine"})
    assert not validator.is_valid({**document, "bogus": 1})
    assert not validator.is_valid({**document, "duration_s": "long"})


def test_host_is_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod's own name is no node."""
    monkeypatch.setenv("NODE_NAME", "gpu-17")
    named = host_name()
    monkeypatch.delenv("NODE_NAME")

    assert named == "gpu-17"
    assert host_name() not in {"", "gpu-17"}

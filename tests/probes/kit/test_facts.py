"""Facts are collected up to the first error, and judged by what torch promises of them."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pydantic import JsonValue

from probes.kit import capabilities
from probes.kit.facts import (
    LACKING,
    NODE,
    REFUSED,
    SOME,
    STOPPED,
    collect_facts,
    is_expected,
    judge_facts,
)

HINT = "look again"


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (REFUSED, ["RuntimeError: any text", "TypeError: in any version"], ["", None, "raised"]),
        (NODE, ["MulBackward0", "_OwnBackward", "CppNode<Npu>"], ["", None, "raised", True]),
        (SOME, [1, 2], [0, -1, True, 1.0, "1"]),
    ],
)
def test_texts_and_names_that_torch_does_not_promise_may_differ(
    rule: str, right: list[Any], wrong: list[Any]
) -> None:
    """Texts of errors, names of nodes and version counters depend on the back-end."""
    assert all(is_expected(value, rule) for value in right)
    assert not any(is_expected(value, rule) for value in wrong)
    assert is_expected([True, right[0]], [True, rule])
    assert not is_expected([True], [True, rule])


def steps(error: Exception | None = None) -> Iterator[tuple[str, JsonValue]]:
    """One fact, then perhaps an error, then another fact."""
    yield "first", 1.0
    torch.set_grad_enabled(False)
    if error:
        raise error
    yield "second", True


def test_an_error_ends_the_facts_and_becomes_one() -> None:
    """What came before it is kept, and a mode that was left on is put back."""
    assert collect_facts(steps(), "cpu") == {"first": 1.0, "second": True}
    ended = collect_facts(steps(RuntimeError("no kernel\nat line 3")), "cpu")

    assert ended == {"first": 1.0, STOPPED: "RuntimeError: no kernel"}
    assert torch.is_grad_enabled()
    with pytest.raises(torch.cuda.OutOfMemoryError):
        collect_facts(steps(torch.cuda.OutOfMemoryError("out of memory")), "cpu")


def test_an_absence_that_is_documented_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the back-end documents that it has no such operation."""
    absent = NotImplementedError("'aten::take' is not currently implemented for the MPS device")
    monkeypatch.setattr(capabilities, "back_end", lambda _device: "mps")
    ended = collect_facts(steps(absent), "cpu")

    assert set(ended) == {"first", LACKING}
    assert judge_facts("a.b", ended, {"first": 1.0, "second": True}, HINT).status == "pass"
    assert judge_facts("a.b", ended, {"second": True}, HINT).status == "skip"


def test_wrong_facts_are_listed_with_both_values() -> None:
    """With the error that ended them, a hint and an action."""
    expected: dict[str, JsonValue] = {"first": 2.0, "second": True}
    finding = judge_facts("a.b", {"first": 1.0, STOPPED: "RuntimeError: no kernel"}, expected, HINT)

    assert (finding.id, finding.status, finding.hint) == ("a.b", "fail", HINT)
    assert finding.message == "not as documented: first, second (RuntimeError: no kernel)"
    assert finding.observed == {"first": 1.0, "second": STOPPED}
    assert finding.expected == expected
    assert finding.wrong == dict.fromkeys(expected, "other")
    assert judge_facts("a.b", None, expected, HINT).status == "fail"
    assert judge_facts("a.b", dict(expected), expected, HINT).status == "pass"

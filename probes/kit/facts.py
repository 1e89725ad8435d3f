"""Facts: named values that a check collects on a device, and the values that are right.

If torch promises that something is refused, or that there is a node, it does not promise the type
and text of the error or the name of the node: they differ between versions and back-ends.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import torch
from pydantic import JsonValue

from probes.contract import Finding, require, skipped
from probes.kit import breadcrumb
from probes.kit.capabilities import documented_absence
from probes.kit.tensors import refusal

Facts = dict[str, JsonValue]
Steps = Iterator[tuple[str, JsonValue]]

#: Errors raised by torch, or by a reference that gets a wrong shape.
RAISED: Final = (
    RuntimeError,
    TypeError,
    ValueError,
    IndexError,
    KeyError,
    AttributeError,
    AssertionError,
)

#: Name of the fact with the error that ended the facts of a check.
STOPPED: Final = "raised"

#: The same for an error that is a documented absence of the back-end.
LACKING: Final = "lacking"

_REFUSAL_CHARACTERS: Final = 160

#: Any error, as `Type: text`.
REFUSED: Final = "refused"
#: The name of a graph node: torch's, or of a back-end's function in C++ or Python.
NODE: Final = "the name of a node"
#: A whole number of one or more.
SOME: Final = "at least 1"

_ERROR: Final = re.compile(r"[A-Za-z]\w*: ")
_NODE_NAME: Final = re.compile(r"Backward|CppNode|AccumulateGrad")


def refused(call: Callable[[], object]) -> str:
    """The error that a call raised, cut to a bounded length; empty if it raised none."""
    return refusal(call)[:_REFUSAL_CHARACTERS]


def collect_facts(steps: Iterable[tuple[str, JsonValue]], device: str) -> Facts:
    """Collect the facts that `steps` yields; an error ends them and becomes a fact itself."""
    facts: Facts = {}
    recording = torch.is_grad_enabled()
    try:
        for name, value in steps:
            facts[name] = value
            breadcrumb.operation(f"after {name}")
    except torch.cuda.OutOfMemoryError:  # of every back-end; others may use the memory
        raise
    except RAISED as error:
        why = documented_absence(error, device)
        text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        facts |= {LACKING: why} if why else {STOPPED: text}
    finally:
        # A mode that did not end must not affect the next check.
        torch._C._set_grad_enabled(recording)
    return facts


def is_expected(observed: JsonValue, expected: JsonValue) -> bool:
    """Whether a fact has its expected value; lists are compared item by item."""
    if expected == REFUSED:
        return isinstance(observed, str) and _ERROR.match(observed) is not None
    if expected == NODE:
        return isinstance(observed, str) and _NODE_NAME.search(observed) is not None
    if expected == SOME:
        return type(observed) is int and observed >= 1
    if isinstance(expected, list):
        return (
            isinstance(observed, list)
            and len(observed) == len(expected)
            and all(map(is_expected, observed, expected))
        )
    # The types must be equal too: Python's True equals 1 and 1.0.
    return observed == expected and type(observed) is type(expected)


def judge_facts(
    check: str, observed: Facts | None, expected: Mapping[str, JsonValue], hint: str
) -> Finding:
    """A finding over the facts of a check; wrong facts are listed with both values.

    If the back-end lacks an operation the facts end there; those before it must be right.
    """
    facts = observed or {}
    if LACKING in facts:
        expected = {name: value for name, value in expected.items() if name in facts}
        if not expected:
            return skipped(check, str(facts[LACKING]))
    wrong = [
        name for name, value in expected.items() if not is_expected(facts.get(name, STOPPED), value)
    ]
    names = ", ".join(wrong)
    stopped = f" ({facts[STOPPED]})" if STOPPED in facts else ""
    finding = require(
        check,
        not wrong,
        {name: facts.get(name, STOPPED) for name in wrong} if wrong else list(expected),
        {name: expected[name] for name in wrong} if wrong else "each as documented",
        message=f"not as documented: {names}{stopped}",
        hint=hint,
        action="fix_image",
    )
    return finding.model_copy(update={"wrong": dict.fromkeys(wrong, "other")})

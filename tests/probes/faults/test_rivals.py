"""The rules of other tools, as published: which faults each detects."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from probes import catalog
from probes.faults import rivals
from probes.faults.rivals import GRADCHECK, RULES, Array

pytestmark = pytest.mark.slow

RIGHT = np.linspace(1, 6400, 64)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def outputs(*changes: Callable[[Array], None]) -> list[tuple[Array, Array]]:
    """Three float32 outputs with their reference, each with one of the changes."""
    made = []
    for turn in range(3):
        out = RIGHT.astype(np.float32)
        for change in changes[turn : turn + 1]:
            change(out)
        made.append((out, RIGHT))
    return made


def right(_: Array) -> None:
    """Change nothing."""


def nan(out: Array) -> None:
    """Put a NaN in the last place."""
    out[-1] = np.nan


def bit(out: Array) -> None:
    """Flip the lowest bit of the last element."""
    out.view(np.uint32)[-1] ^= 1


def thousandth(out: Array) -> None:
    """Multiply by 1.001."""
    out *= np.float32(1.001)


def tenth(out: Array) -> None:
    """Multiply by 1.1."""
    out *= np.float32(1.1)


def zeros(out: Array) -> None:
    """Set all to zero."""
    out[:] = 0


#: What is wrong in the first, second and third output -> the rules that raise an alarm.
CASES: dict[str, tuple[tuple[Callable[[Array], None], ...], set[str]]] = {
    "right": ((right, right, right), set()),
    "nan": ((nan, nan, nan), {"finite", "allclose_1e-2", "assert_close"}),
    "nan later": ((right, nan, right), {"finite", "allclose_1e-2", "assert_close"}),
    "zeros always": ((zeros, zeros, zeros), {"allclose_1e-2", "assert_close"}),
    "zeros later": ((right, zeros, right), {"allclose_1e-2", "assert_close", "gpu_burn"}),
    "zeros first": ((zeros, right, right), {"allclose_1e-2", "assert_close", "gpu_burn"}),
    "a tenth off": ((tenth, tenth, tenth), {"allclose_1e-2", "assert_close"}),
    "a thousandth off": ((thousandth, thousandth, thousandth), {"assert_close"}),
    "one bit": ((bit, bit, bit), set()),
}


@pytest.mark.parametrize("case", CASES)
def test_what_each_rule_catches(case: str) -> None:
    """gpu-burn misses NaN and what is wrong every time; no rule detects one bit."""
    changes, alarms = CASES[case]
    outputs_with_faults = outputs(*changes)

    assert {name for name, passes in RULES.items() if not passes(outputs_with_faults)} == alarms


def test_a_healthy_machine_raises_no_alarm() -> None:
    """Every rule passes on this machine, also that for gradients."""
    for module in catalog.GRADCHECK.preload:
        __import__(module)
    observation = rivals.observe("cpu")

    assert observation.passes == dict.fromkeys((*RULES, GRADCHECK), True)
    assert {finding.status for finding in rivals.judge(observation)} == {"pass"}
    assert {each.name for each in rivals.measure(observation)} == {"operations", "matched", "met"}


def test_a_rule_whose_work_raised_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule whose work raised does not pass."""

    def refuses(*_: object) -> None:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(torch, "bmm", refuses)

    assert {rule for rule, passes in rivals.observe("cpu").passes.items() if passes} == {GRADCHECK}

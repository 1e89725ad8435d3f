"""An injected operation is in force wherever a probe computes, for the right calls only."""

from typing import Any

import pytest
import torch

from tests.probes.faults.programs import output_of

pytestmark = pytest.mark.slow

RIGHT, WRONG = -1.0, 0.0  # of neg(1)

#: Case -> expected result; the comment shows the result without a fault, where not obvious.
EXPECTED: dict[str, Any] = {
    "main thread": 0.0,  # 8
    "other thread": 0.0,  # 8
    "backward": 0.0,  # 3
    "backward in a thread": 0.0,  # 3
    "kernel": 0.0,  # 8
    "kernel of a backward": 0.0,  # 3
    "kernel called by torch": 0.0,  # 12
    "kernel, after 1": [RIGHT, WRONG, WRONG],
    "kernel that raises": ["RuntimeError: no kernel image", ""],
    "kernel of another device": 8.0,
    "idle kernels": [[6.0, 10.0, 14.0], [6.0, 10.0, 14.0]],
    "kernels and numbers": [
        ["torch.float32", "[1.5, 3.0]"],
        ["torch.int64", "[2, 4]"],
        ["torch.int64", "[2, 3]"],
        ["torch.float64", "[0.010000000000000002]"],
        ["torch.float16", "[0.14990234375]"],
        ["torch.complex64", "[1j, 2j]"],
    ],
    "always": [WRONG] * 6,
    "first 2": [WRONG] * 2 + [RIGHT] * 4,
    "after 4": [RIGHT] * 4 + [WRONG] * 2,
    "every 3": [WRONG, RIGHT, RIGHT] * 2,
    "one type": [True, False],
    "one type, counted": [0, 1],
    "kernel of one type, counted": [0, 1],
    "large": [True, False],
    "sticky": [
        "",
        "RuntimeError: device-side assert triggered",
        "RuntimeError: device-side assert triggered",
    ],
    "once": ["RuntimeError: no kernel image", ""],
    "tf32": 1.0,  # 1 + 2^-12
    "lost copy": [0.0, 0.0],
    "idle": [[6.0, 10.0, 14.0], [6.0, 10.0, 14.0]],
    "no fault": [RIGHT],
}


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """Every case, in forked children of one process."""
    return output_of("alive")


@pytest.mark.parametrize("case", EXPECTED)
def test_an_injected_operation_is_in_force(results: dict[str, Any], case: str) -> None:
    """Main thread, other threads, backward, the first calls, later ones, one type, large ones."""
    if "kernel" in case and not hasattr(torch.library, "get_kernel"):
        pytest.skip("this torch cannot replace kernels (2.9 can)")
    assert results[case] == EXPECTED[case]

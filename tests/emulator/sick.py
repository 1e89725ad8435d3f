"""What each fault does, without any probe: the fault, the action under it, the outcome."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from probes.kit.tensors import refusal

A = ((1.0, 2.0), (3.0, 4.0))
#: A @ A
EXPECTED_PRODUCT = [[7, 10], [15, 22]]


def product(device: str = "fake:1", dtype: torch.dtype = torch.float32) -> list[list[float]]:
    """One small product."""
    a = torch.tensor(A, device=device, dtype=dtype)
    made: list[list[float]] = (a @ a).tolist()
    return made


def products(times: int = 6) -> list[bool]:
    """Which of several products are right."""
    return [product() == EXPECTED_PRODUCT for _ in range(times)]


def next_product() -> list[list[list[float]]]:
    """Two products of different operands."""
    a = torch.tensor(A, device="fake:1")
    return [(a @ a).tolist(), ((a + 1) @ a).tolist()]


def both_devices() -> list[bool]:
    """Whether the product is right on each device."""
    return [product(device) == EXPECTED_PRODUCT for device in ("fake:0", "fake:1")]


def directions() -> dict[str, bool]:
    """Whether copies of each direction are right, compared where they arrive."""
    host = torch.arange(64, dtype=torch.int32)
    made = torch.arange(64, dtype=torch.int32, device="fake:1")
    return {
        "h2d": bool((host.to("fake:1") == made).all()),
        "d2h": torch.equal(made.cpu(), host),
        "d2d": bool((made.clone() == made).all()),
    }


def arrived() -> list[int]:
    """Eight numbers after a copy over eight zeros."""
    into = torch.zeros(8, dtype=torch.int32, device="fake:1")
    into.copy_(torch.arange(1, 9, dtype=torch.int32))
    made: list[int] = into.tolist()
    return made


def gradients() -> list[Any]:
    """A product and the gradient of one operand, computed in the device's own thread."""
    a = torch.tensor(A, device="fake:1", requires_grad=True)
    made = a @ torch.tensor(A, device="fake:1")
    made.sum().backward()
    assert a.grad is not None
    return [made.tolist(), a.grad.tolist()]


def convolution() -> list[float]:
    """The gradient of a filter."""
    w = torch.ones(1, 1, 2, device="fake:1", requires_grad=True)
    F.conv1d(torch.tensor([[[1.0, 2.0, 3.0]]], device="fake:1"), w).sum().backward()
    assert w.grad is not None
    made: list[float] = w.grad.flatten().tolist()
    return made


def dropout() -> list[float]:
    """The distinct values that dropout gives for ones."""
    return sorted(set(F.dropout(torch.ones(1000, device="fake:1"), 0.5).tolist()))


def kinds() -> list[bool]:
    """Whether the product is right in three dtypes."""
    return [
        product(dtype=dtype) == EXPECTED_PRODUCT
        for dtype in (torch.float32, torch.float64, torch.float16)
    ]


def sizes() -> list[bool]:
    """Whether products of ones are right, small and large."""
    made = [torch.ones(n, n, device="fake:1") for n in (2, 64)]
    return [bool((matrix @ matrix == len(matrix)).all()) for matrix in made]


def afterwards() -> list[str]:
    """What each call raises, one after another, on both devices."""
    calls: list[Callable[[], object]] = [
        lambda: torch.ones(1, device="fake:1").item(),
        product,
        lambda: torch.ones(1, device="fake:1"),
        lambda: torch.accelerator.synchronize(torch.device("fake:1")),
        lambda: product("fake:0"),
    ]
    return [refusal(call) for call in calls]


def unscaled() -> list[list[float]]:
    """Two gradients halved in place, by one operation that returns nothing."""
    tensors = [torch.full((2,), 2.0, device="fake:1") for _ in range(2)]
    found, half = (torch.tensor([value], device="fake:1") for value in (0.0, 0.5))
    torch._amp_foreach_non_finite_check_and_unscale_(tensors, found, half)
    return [tensor.tolist() for tensor in tensors]


def edges() -> list[list[float]]:
    """The edges of two bins, by an operation that returns a list of tensors."""
    x = torch.tensor([[0.0], [4.0]], device="fake:1")
    return [tensor.tolist() for tensor in torch._histogramdd_bin_edges(x, [2])]


def synchronize() -> None:
    """Wait for the device."""
    torch.fake.synchronize("fake:1")  # type: ignore[attr-defined]


def allocate() -> list[str]:
    """The error types of a block that fits and one that does not, on both devices."""

    def error_type(device: str, count: int) -> str:
        text = refusal(lambda: torch.empty(count, dtype=torch.uint8, device=device))
        return text.partition(":")[0]

    return [error_type(device, count) for device in ("fake:0", "fake:1") for count in (100, 2000)]


@dataclass(frozen=True)
class FaultTrial:
    """A fault, an action under it, and the outcome: its value, its error, or its process's end."""

    faults: str
    action: Callable[[], Any]
    outcome: Any


LOST = "RuntimeError: device lost"

FAULT_TRIALS = {
    "none": FaultTrial("", product, EXPECTED_PRODUCT),
    "the other device": FaultTrial("0:aten::mm:zero", both_devices, [False, True]),
    "both devices": FaultTrial("0:aten::mm:zero;1:aten::mm:flip", both_devices, [False, False]),
    "zero": FaultTrial("1:aten::mm:zero", product, [[0, 0], [0, 0]]),
    "scale": FaultTrial("1:aten::mm:scale:2", product, [[14, 20], [30, 44]]),
    "swap": FaultTrial("1:aten::mm:swap", product, [[22, 10], [15, 7]]),
    "flip": FaultTrial("1:aten::mm:flip", product, [[7, 10], [15 + 2**-17, 22]]),
    "nan": FaultTrial("1:aten::mm:nan", lambda: str(product()[1][0]), "nan"),
    # 0xABABABAB as a float32
    "short": FaultTrial("1:aten::mm:short", product, [[7, 10], [15, -1.2197928214371934e-12]]),
    "stale": FaultTrial("1:aten::mm:stale", next_product, [EXPECTED_PRODUCT, EXPECTED_PRODUCT]),
    "every operation": FaultTrial("1:*:raise:no", product, "RuntimeError: no"),
    "h2d": FaultTrial("1:h2d:flip", directions, {"h2d": False, "d2h": True, "d2d": True}),
    "d2h": FaultTrial("1:d2h:flip@large=2", directions, {"h2d": True, "d2h": False, "d2d": True}),
    "d2d": FaultTrial("1:d2d:zero", directions, {"h2d": True, "d2h": True, "d2d": False}),
    "copy, stale": FaultTrial("1:h2d:stale", arrived, [0] * 8),
    "copy, short": FaultTrial("1:h2d:short", arrived, [1, 2, 3, 4, 5, 6, 7, -0x54545455]),
    "copy, swapped": FaultTrial("1:h2d:swap", arrived, [8, 2, 3, 4, 5, 6, 7, 1]),
    "first": FaultTrial("1:aten::mm:flip@first", products, [False] + [True] * 5),
    "every": FaultTrial("1:aten::mm:flip@every=3", products, [True, True, False] * 2),
    "after": FaultTrial("1:aten::mm:flip@after=4", products, [True] * 4 + [False] * 2),
    "large": FaultTrial("1:aten::mm:zero@large=4096", sizes, [True, False]),
    "dtype": FaultTrial("1:aten::mm:zero@dtype=Double", kinds, [True, False, True]),
    "backward": FaultTrial(
        "1:aten::mm:scale:2@after=1", gradients, [EXPECTED_PRODUCT, [[6, 14], [6, 14]]]
    ),
    "raises in backward": FaultTrial("1:aten::mm:raise:no@after=1", gradients, "RuntimeError: no"),
    "dies in backward": FaultTrial("1:aten::mm:abort@after=1", gradients, "SIGABRT"),
    "hangs in backward": FaultTrial(
        "1:aten::mm:hang@after=1", gradients, "hangs, other threads go on"
    ),
    "convolution": FaultTrial("1:aten::convolution_backward:zero", convolution, [0, 0]),
    "nothing returned": FaultTrial(
        "1:aten::_amp_foreach_non_finite_check_and_unscale_:zero", unscaled, [[0, 0], [1, 1]]
    ),
    "a list returned": FaultTrial("1:aten::_histogramdd_bin_edges:zero", edges, [[0, 0, 0]]),
    "dropout": FaultTrial("1:aten::native_dropout:scale:1.5", dropout, [0, 3]),
    "raise": FaultTrial(
        "1:aten::mm:raise:out of luck", afterwards, ["", "RuntimeError: out of luck", "", "", ""]
    ),
    "sticky": FaultTrial("1:aten::mm:sticky:device lost", afterwards, ["", LOST, LOST, LOST, ""]),
    "synchronize": FaultTrial("1:synchronize:raise:no", synchronize, "RuntimeError: no"),
    "full": FaultTrial("1:alloc:full:1000", allocate, ["", "", "", "OutOfMemoryError"]),
    "allocation raises": FaultTrial("1:alloc:raise:no", product, "RuntimeError: no"),
    "abort": FaultTrial("1:aten::mm:abort", product, "SIGABRT"),
    "segv": FaultTrial("1:aten::mm:segv", product, "SIGSEGV"),
    "exit": FaultTrial("1:aten::mm:exit", product, "exit 0"),
    "hang": FaultTrial("1:aten::mm:hang", product, "hangs, other threads go on"),
    "hang_gil": FaultTrial("1:aten::mm:hang_gil", product, "hangs, no thread goes on"),
    "hang in synchronize": FaultTrial(
        "1:synchronize:hang", synchronize, "hangs, other threads go on"
    ),
    "no fault's name": FaultTrial(
        "1:aten::mm:flop", product, "RuntimeError: EMULATOR_FAULTS: 'flop' is no fault"
    ),
    "no time's name": FaultTrial(
        "1:aten::mm:flip@never", product, "RuntimeError: EMULATOR_FAULTS: '@never' is no time"
    ),
    "no place's name": FaultTrial(
        "1:mm:flip", product, "RuntimeError: EMULATOR_FAULTS: no device runs 'mm' by that name"
    ),
    "no operation's name": FaultTrial(
        "1:aten::linear:flip",
        product,
        "RuntimeError: EMULATOR_FAULTS: no device runs 'aten::linear' by that name",
    ),
    "no fault at all": FaultTrial(
        "1:aten::mm",
        product,
        "RuntimeError: EMULATOR_FAULTS: '1:aten::mm' is not device:where:what",
    ),
}

"""What each fault does, seen without any probe: what is set, what is done, what must come of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from probes.kit.tensors import refusal

A = ((1.0, 2.0), (3.0, 4.0))
#: A @ A
RIGHT = [[7, 10], [15, 22]]


def product(device: str = "fake:1", dtype: torch.dtype = torch.float32) -> list[list[float]]:
    """One small product."""
    a = torch.tensor(A, device=device, dtype=dtype)
    made: list[list[float]] = (a @ a).tolist()
    return made


def products(times: int = 6) -> list[bool]:
    """Which of several products are right."""
    return [product() == RIGHT for _ in range(times)]


def next_product() -> list[list[list[float]]]:
    """Two products of different operands."""
    a = torch.tensor(A, device="fake:1")
    return [(a @ a).tolist(), ((a + 1) @ a).tolist()]


def both_devices() -> list[bool]:
    """Whether the product is right on each device."""
    return [product(device) == RIGHT for device in ("fake:0", "fake:1")]


def directions() -> dict[str, bool]:
    """Whether each direction brings what it was given, seen where it arrived."""
    host = torch.arange(64, dtype=torch.int32)
    made = torch.arange(64, dtype=torch.int32, device="fake:1")
    return {
        "h2d": bool((host.to("fake:1") == made).all()),
        "d2h": torch.equal(made.cpu(), host),
        "d2d": bool((made.clone() == made).all()),
    }


def arrived() -> list[int]:
    """Eight numbers copied over others."""
    into = torch.zeros(8, dtype=torch.int32, device="fake:1")
    into.copy_(torch.arange(1, 9, dtype=torch.int32))
    made: list[int] = into.tolist()
    return made


def gradients() -> list[Any]:
    """A product and the gradient of one operand, which the device's own thread makes."""
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
    """The two values that dropout leaves."""
    return sorted(set(F.dropout(torch.ones(1000, device="fake:1"), 0.5).tolist()))


def kinds() -> list[bool]:
    """Whether the product is right in three types."""
    return [product(dtype=one) == RIGHT for one in (torch.float32, torch.float64, torch.float16)]


def sizes() -> list[bool]:
    """Whether products of ones are right, small and large."""
    made = [torch.ones(n, n, device="fake:1") for n in (2, 64)]
    return [bool((one @ one == len(one)).all()) for one in made]


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
    made = [torch.full((2,), 2.0, device="fake:1") for _ in range(2)]
    found, half = (torch.tensor([value], device="fake:1") for value in (0.0, 0.5))
    torch._amp_foreach_non_finite_check_and_unscale_(made, found, half)
    return [one.tolist() for one in made]


def edges() -> list[list[float]]:
    """The edges of two bins, by an operation that returns a list of tensors."""
    x = torch.tensor([[0.0], [4.0]], device="fake:1")
    return [one.tolist() for one in torch._histogramdd_bin_edges(x, [2])]


def synchronize() -> None:
    """Wait for the device."""
    torch.fake.synchronize("fake:1")  # type: ignore[attr-defined]


def allocate() -> list[str]:
    """A block that fits and one that does not, on both devices."""

    def said(device: str, count: int) -> str:
        text = refusal(lambda: torch.empty(count, dtype=torch.uint8, device=device))
        return text.partition(":")[0]

    return [said(device, count) for device in ("fake:0", "fake:1") for count in (100, 2000)]


@dataclass(frozen=True)
class Sick:
    """A fault, what is done under it, and what comes of it: a value, or the child's own end."""

    faults: str
    action: Callable[[], Any]
    outcome: Any


LOST = "RuntimeError: device lost"

SICK = {
    "none": Sick("", product, RIGHT),
    "the other device": Sick("0:aten::mm:zero", both_devices, [False, True]),
    "both devices": Sick("0:aten::mm:zero;1:aten::mm:flip", both_devices, [False, False]),
    "zero": Sick("1:aten::mm:zero", product, [[0, 0], [0, 0]]),
    "scale": Sick("1:aten::mm:scale:2", product, [[14, 20], [30, 44]]),
    "swap": Sick("1:aten::mm:swap", product, [[22, 10], [15, 7]]),
    "flip": Sick("1:aten::mm:flip", product, [[7, 10], [15 + 2**-17, 22]]),
    "nan": Sick("1:aten::mm:nan", lambda: str(product()[1][0]), "nan"),
    # 0xABABABAB as a float32
    "short": Sick("1:aten::mm:short", product, [[7, 10], [15, -1.2197928214371934e-12]]),
    "stale": Sick("1:aten::mm:stale", next_product, [RIGHT, RIGHT]),
    "every operation": Sick("1:*:raise:no", product, "RuntimeError: no"),
    "h2d": Sick("1:h2d:flip", directions, {"h2d": False, "d2h": True, "d2d": True}),
    "d2h": Sick("1:d2h:flip@large=2", directions, {"h2d": True, "d2h": False, "d2d": True}),
    "d2d": Sick("1:d2d:zero", directions, {"h2d": True, "d2h": True, "d2d": False}),
    "copy, stale": Sick("1:h2d:stale", arrived, [0] * 8),
    "copy, short": Sick("1:h2d:short", arrived, [1, 2, 3, 4, 5, 6, 7, -0x54545455]),
    "copy, swapped": Sick("1:h2d:swap", arrived, [8, 2, 3, 4, 5, 6, 7, 1]),
    "first": Sick("1:aten::mm:flip@first", products, [False] + [True] * 5),
    "every": Sick("1:aten::mm:flip@every=3", products, [True, True, False] * 2),
    "after": Sick("1:aten::mm:flip@after=4", products, [True] * 4 + [False] * 2),
    "large": Sick("1:aten::mm:zero@large=4096", sizes, [True, False]),
    "dtype": Sick("1:aten::mm:zero@dtype=Double", kinds, [True, False, True]),
    "backward": Sick("1:aten::mm:scale:2@after=1", gradients, [RIGHT, [[6, 14], [6, 14]]]),
    "raises in backward": Sick("1:aten::mm:raise:no@after=1", gradients, "RuntimeError: no"),
    "dies in backward": Sick("1:aten::mm:abort@after=1", gradients, "SIGABRT"),
    "hangs in backward": Sick("1:aten::mm:hang@after=1", gradients, "hangs, other threads go on"),
    "convolution": Sick("1:aten::convolution_backward:zero", convolution, [0, 0]),
    "nothing returned": Sick(
        "1:aten::_amp_foreach_non_finite_check_and_unscale_:zero", unscaled, [[0, 0], [1, 1]]
    ),
    "a list returned": Sick("1:aten::_histogramdd_bin_edges:zero", edges, [[0, 0, 0]]),
    "dropout": Sick("1:aten::native_dropout:scale:1.5", dropout, [0, 3]),
    "raise": Sick(
        "1:aten::mm:raise:out of luck", afterwards, ["", "RuntimeError: out of luck", "", "", ""]
    ),
    "sticky": Sick("1:aten::mm:sticky:device lost", afterwards, ["", LOST, LOST, LOST, ""]),
    "synchronize": Sick("1:synchronize:raise:no", synchronize, "RuntimeError: no"),
    "full": Sick("1:alloc:full:1000", allocate, ["", "", "", "OutOfMemoryError"]),
    "allocation raises": Sick("1:alloc:raise:no", product, "RuntimeError: no"),
    "abort": Sick("1:aten::mm:abort", product, "SIGABRT"),
    "segv": Sick("1:aten::mm:segv", product, "SIGSEGV"),
    "exit": Sick("1:aten::mm:exit", product, "exit 0"),
    "hang": Sick("1:aten::mm:hang", product, "hangs, other threads go on"),
    "hang_gil": Sick("1:aten::mm:hang_gil", product, "hangs, no thread goes on"),
    "hang in synchronize": Sick("1:synchronize:hang", synchronize, "hangs, other threads go on"),
    "no fault's name": Sick(
        "1:aten::mm:flop", product, "RuntimeError: EMULATOR_FAULTS: 'flop' is no fault"
    ),
    "no time's name": Sick(
        "1:aten::mm:flip@never", product, "RuntimeError: EMULATOR_FAULTS: '@never' is no time"
    ),
    "no place's name": Sick(
        "1:mm:flip", product, "RuntimeError: EMULATOR_FAULTS: no device runs 'mm' by that name"
    ),
    "no operation's name": Sick(
        "1:aten::linear:flip",
        product,
        "RuntimeError: EMULATOR_FAULTS: no device runs 'aten::linear' by that name",
    ),
    "no fault at all": Sick(
        "1:aten::mm",
        product,
        "RuntimeError: EMULATOR_FAULTS: '1:aten::mm' is not device:where:what",
    ),
}

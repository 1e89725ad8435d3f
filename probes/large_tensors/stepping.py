"""Optimizer steps on one large parameter, and what goes over its gradient before them."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_kernel
from probes.kit.case import Array, on_device
from probes.kit.gradients import integers as odd
from probes.kit.gradients import recording
from probes.kit.operands import F32
from probes.kit.references import compare
from probes.kit.trial import Trial, fact
from probes.large_tensors.pattern import same
from probes.large_tensors.sizes import COUNTED, MILLION, Sized
from probes.large_tensors.tiled import repeated

_PERIOD: Final = 4093
_START: Final = 8.0
_STEPS: Final = 2


class Stepped(NamedTuple):
    """An optimizer of `torch.optim`, its options, and what it subtracts in two steps.

    `subtracted` is called with a gradient that is the same in both steps.
    """

    options: dict[str, Any]
    subtracted: Any
    fused: str  # its fused kernel
    rounding: float = 0.0


#: With a constant gradient the averages of Adam are the gradient and its square, but for rounding
#: in a few operations and in the corrections, which are powers of the rates.
_ADAM: Final = 2.0**-16
_OPTIMIZERS: Final = {
    "SGD": Stepped(
        {"lr": 0.5, "weight_decay": 0.5},
        lambda g: _START - 0.75 * (0.75 * _START - 0.5 * g) + 0.5 * g,
        "_fused_sgd_",
    ),
    "Adam": Stepped(
        {"lr": 0.25, "betas": (0.5, 0.75), "eps": 1e-12},
        lambda g: 2 * 0.25 * np.sign(g),
        "_fused_adam_",
        _ADAM,
    ),
    "AdamW": Stepped(
        {"lr": 0.25, "betas": (0.5, 0.75), "eps": 1e-12, "weight_decay": 0.5},
        lambda g: _START * (1 - 0.875**2) + (0.875 + 1) * 0.25 * np.sign(g),
        "_fused_adamw_",
        _ADAM,
    ),
}


def steps(device: str) -> Iterator[Trial]:
    """Each implementation beyond 2^20 elements; beyond 2^24 on a GPU, and one on a CPU."""
    on_cpu = torch.device(device).type == "cpu"
    for name, each in _OPTIMIZERS.items():
        forms = ["for-loop", "foreach", *(["fused"] if has_kernel(each.fused, device) else [])]
        for form in forms:
            size = MILLION if on_cpu and (name, form) != ("SGD", "for-loop") else COUNTED
            yield Sized(f"optim.{name}", partial(_stepped, name, each, form), size, 4 * 8)
    size = MILLION if on_cpu else COUNTED
    yield Sized("nn.utils.clip_grad_norm_", _clipped, size, 4 * 6)
    if has_kernel("_amp_foreach_non_finite_check_and_unscale_", device):
        yield Sized("_amp_foreach_non_finite_check_and_unscale_", _unscaled, size, 4 * 2)


def _stepped(name: str, each: Stepped, form: str, n: int, device: str) -> Iterator[Comparison]:
    base = odd((_PERIOD,), 401)
    gradient = repeated(base, device, n, torch.float32)
    with recording():
        parameter = torch.full((n,), _START, device=device, requires_grad=True)
        parameter.grad = gradient
        chosen = {"fused": True} if form == "fused" else {"foreach": form == "foreach"}
        optimizer = getattr(torch.optim, name)([parameter], **each.options, **chosen)
        for _ in range(_STEPS):
            optimizer.step()
    right = (_START - each.subtracted(base)).astype(F32)
    allowed = each.rounding * _START if each.rounding else None
    yield same(f"optim.{name} ({form})", parameter.detach(), right, 0, allowed)


def _clipped(n: int, device: str) -> Iterator[Comparison]:
    """The norm is the root of a count below 2^24: of the places that are not 0, one in seven."""
    base = (np.arange(7) == 3) * 1.0
    x = torch.zeros(n, device=device, requires_grad=True)
    x.grad = repeated(base, device, n, torch.float32)
    norm = torch.nn.utils.clip_grad_norm_([x], 1.0)
    right = np.sqrt(float(n // 7 + (n % 7 > 3)))
    # By blocks or pairs; one after another would end at 2^24, beyond these.
    name = f"nn.utils.clip_grad_norm_ ({n} elements"
    yield compare(f"{name}, norm)", norm, np.asarray(right, F32), 2.0**-12 * right)
    scaled = (base / (right + 1e-6)).astype(F32)
    yield same(f"{name}, gradient)", x.grad, scaled, 0, 2.0**-12 / right)


def _unscaled(n: int, device: str) -> Iterator[Comparison]:
    """An infinity in the last place is found; without it the gradient is divided."""
    base: Array = odd((_PERIOD,), 402)
    x = repeated(base, device, n, torch.float32)
    inverse = on_device(np.asarray([0.25], F32), device)
    name = "_amp_foreach_non_finite_check_and_unscale_"
    for expected in (0.0, 1.0):
        flag = torch.zeros(1, device=device)
        torch._amp_foreach_non_finite_check_and_unscale_([x], flag, inverse)
        yield fact(f"{name} ({n} elements, the flag)", float(flag), expected)
        if not expected:
            yield same(f"{name} (the gradient)", x, (base / 4).astype(F32))
        x[-1] = torch.inf

"""Random numbers: the mean of each part of a large draw, and whether a part is drawn twice."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.draws import SEED, generator, moment_comparisons
from probes.kit.generators import random_state_kept
from probes.kit.gradients import recording
from probes.kit.references import compare
from probes.kit.trial import Trial, fact
from probes.large_tensors.sizes import COUNTED, INDEXED, MILLION, Sized
from probes.large_tensors.tiled import gradient_of

#: Elements of a part whose mean is looked at; a part goes beyond each limit of a size.
_PART: Final = 2**17
#: A mean of a part is further off once in 10^11.
_SIGMAS: Final = 7.0
#: Of elements that are a power of two apart, so many are equal at most, beyond what chance gives.
_EQUAL: Final = 0.05


@dataclass(frozen=True)
class Draw:
    """A draw of n numbers; what one of them has, and how often two of them are equal."""

    call: Callable[[int, str, torch.Generator | None], torch.Tensor]
    mean: float
    variance: float
    spread: float  # the variance of (x - mean)^2
    equal: float = 0.0


def _made(dtype: torch.dtype, name: str, *given: Any) -> Any:
    """A call that fills a new tensor by one of the methods that draw."""

    def draw(n: int, device: str, numbers: torch.Generator | None) -> torch.Tensor:
        empty = torch.empty(n, dtype=dtype, device=device)
        return getattr(empty, name)(*given, generator=numbers)  # type: ignore[no-any-return]

    return draw


_F32, _U8 = torch.float32, torch.uint8

_DIGITS: Final = (np.arange(100) - 49.5) ** 2

_DRAWS: Final[dict[str, Draw]] = {
    "rand": Draw(_made(_F32, "uniform_"), 0.5, 1 / 12, 1 / 180),
    "randn": Draw(_made(_F32, "normal_"), 0.0, 1.0, 2.0),
    "Tensor.exponential_": Draw(_made(_F32, "exponential_"), 1.0, 1.0, 8.0),
    "Tensor.bernoulli_": Draw(_made(_U8, "bernoulli_", 0.25), 0.25, 3 / 16, 3 / 64, 5 / 8),
    "randint": Draw(
        _made(_U8, "random_", 0, 100), 49.5, float(_DIGITS.mean()), float(_DIGITS.var()), 1 / 100
    ),
}
#: Those with more than 2^24 elements on the CPU too.
_COUNTED: Final = frozenset({"rand"})


def draws(device: str) -> Iterator[Trial]:
    """All beyond 2^24 on a GPU, bytes beyond 2^31; beyond 2^20 on a CPU, some beyond 2^24."""
    on_cpu = torch.device(device).type == "cpu"
    for name, each in _DRAWS.items():
        size = (MILLION if on_cpu and name not in _COUNTED else COUNTED) + _PART
        yield Sized(name, partial(_drawn, name, each), size, 3 * 4)
    if not on_cpu:
        name = "Tensor.bernoulli_"
        yield Sized(name, partial(_drawn, name, _DRAWS[name]), INDEXED + _PART, 3)
    size = (MILLION if on_cpu else COUNTED) + _PART
    yield Sized("nn.functional.dropout", _dropped, size, 4 * 6)
    yield Sized("randperm", _permuted, size, 8 * 5)


def _parts(name: str, drawn: torch.Tensor, each: Draw) -> Iterator[Comparison]:
    """The mean of each part and of the last one, and how many repeat what is 2^k before them."""
    n = drawn.numel()
    whole = drawn[: n // _PART * _PART].view(-1, _PART)
    means = _mean(whole)
    sigma = math.sqrt(each.variance / _PART)
    label = f"{name} ({n} elements"
    right = np.full(len(means), each.mean)
    yield compare(f"{label}, mean of each part)", means, right, _SIGMAS * sigma)
    yield from moment_comparisons(name, drawn[-_PART:], each.mean, each.variance, each.spread)
    for bits in (16, 20, 24, 31):
        if n < 2**bits + 4:
            continue
        repeated = drawn[2**bits : 2**bits + _PART]
        share = float((repeated == drawn[: repeated.numel()]).float().mean())
        spread = _SIGMAS * math.sqrt(each.equal / repeated.numel())
        right_share = share <= each.equal + _EQUAL + spread
        yield fact(f"{label}, after 2^{bits} the start again)", right_share, True)


def _mean(rows: torch.Tensor) -> Any:
    """The mean of each row; of integers from a sum in int64, on a CPU by NumPy, which is faster."""
    if rows.is_floating_point():
        return rows.mean(1).cpu().numpy().astype(np.float64)
    if rows.device.type == "cpu":
        return rows.numpy().mean(1)
    return rows.sum(1, dtype=torch.int64).cpu().numpy() / rows.shape[1]


def _drawn(name: str, each: Draw, n: int, device: str) -> Iterator[Comparison]:
    yield from _parts(name, each.call(n, device, generator(device, SEED)), each)


#: What dropout keeps, as ones.
_KEPT: Final = replace(_DRAWS["Tensor.bernoulli_"], mean=0.75)


def _dropped(n: int, device: str) -> Iterator[Comparison]:
    """One in four is 0, the others a third more; the gradient has the same mask."""
    with random_state_kept(device), recording():
        torch.manual_seed(SEED)
        x = torch.full((n,), 0.75, device=device, requires_grad=True)
        found = torch.nn.functional.dropout(x, 0.25)
        found.sum().backward()
    kept = found.detach() != 0
    name = "nn.functional.dropout"
    yield from _parts(name, kept.to(torch.uint8), _KEPT)
    ones = int((found.detach() == 1).sum())
    yield fact(f"{name} ({n} elements, kept ones)", ones, int(kept.sum()))
    # 1 / (1 - p) is 4/3, rounded.
    wrong = ((gradient_of(x) - kept * (4 / 3)).abs() > 2.0**-20).sum()
    yield fact(f"{name} ({n} elements, backward)", int(wrong), 0)


def _permuted(n: int, device: str) -> Iterator[Comparison]:
    """Each position once, and few in their own place."""
    found = torch.randperm(n, generator=generator(device, SEED), device=device)
    seen = torch.zeros(n, dtype=torch.bool, device=device)
    seen[found] = True
    yield fact(f"randperm ({n} elements)", bool(seen.all()), True)
    own = int((found == torch.arange(n, device=device)).sum())
    yield fact(f"randperm ({n} elements, few in their place)", own < 40, True)

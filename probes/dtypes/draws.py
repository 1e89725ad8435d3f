"""Random numbers in each floating type: means, variances and shares within six sigma."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.draws import DRAWS, SEED, generator, moment_comparisons
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact
from probes.kit.typed.values import FLOATS, WHOLE

Body = Callable[[torch.dtype, str], Iterator[Comparison]]

#: What `poisson` and gamma distributions are asked for.
_RATE: Final = 4.0
_CHANCE: Final = 0.25


def draws(device: str) -> Iterator[Trial]:
    """Draws of factories, in place, from rates, and by dropout."""
    bodies: dict[str, Body] = {
        "Tensor.bernoulli_": _bernoulli,
        "bernoulli": _of_chances,
        "rand": _uniform,
        "rand_like": _uniform_like,
        "Tensor.uniform_": _uniform_in_place,
        "randn": _normal,
        "randn_like": _normal_like,
        "Tensor.normal_": _normal_in_place,
        "Tensor.exponential_": _exponential,
        "nn.functional.dropout": _dropout,
        "poisson": _poisson,
    }
    for name, body in bodies.items():
        for dtype in FLOATS:
            if has_dtype(device, dtype):
                bound = partial(body, dtype)
                yield Custom(name, bound, dtype, optional_kernel=True)
    if has_dtype(device, torch.bool):
        masks = partial(_bernoulli, torch.bool)
        yield Custom("Tensor.bernoulli_", masks, torch.bool, optional_kernel=True)
    # Half types have no kernel of it on GPUs, and too few digits for its tails.
    yield Custom("_standard_gamma", partial(_gamma, torch.float32), torch.float32)
    for dtype in WHOLE:
        if has_dtype(device, dtype):
            yield Custom("randint", partial(_integers, dtype), dtype)


def _text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _asked(dtype: torch.dtype, device: str) -> dict[str, Any]:
    return {"dtype": dtype, "device": device, "generator": generator(device, SEED)}


def _untouched(dtype: torch.dtype, device: str) -> torch.Tensor:
    return torch.full((DRAWS,), 99.0, dtype=dtype, device=device)


def _bernoulli(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    drawn = _untouched(dtype, device).bernoulli_(_CHANCE, generator=generator(device, SEED))
    yield from _shares("Tensor.bernoulli_", drawn, 1.0, _CHANCE)


def _of_chances(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    chances = torch.full((DRAWS,), _CHANCE, dtype=dtype, device=device)
    drawn = torch.bernoulli(chances, generator=generator(device, SEED))
    yield from _shares("bernoulli", drawn, 1.0, _CHANCE)


def _dropout(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """Zeros, and the rest times 1 / (1 - 1/4), rounded."""
    torch.manual_seed(SEED)
    dropped = torch.nn.functional.dropout(torch.full((DRAWS,), 3.0, dtype=dtype, device=device))
    yield from _shares("nn.functional.dropout", dropped, 6.0, 0.5)


def _shares(name: str, drawn: torch.Tensor, value: float, chance: float) -> Iterator[Comparison]:
    label = f"{name} ({_text(drawn.dtype)}"
    x = drawn.float().cpu().numpy()
    yield fact(f"{label}, values)", sorted(set(x.tolist())), [0.0, value])
    bound = 6 * math.sqrt(chance * (1 - chance) / DRAWS)
    mean = np.asarray((x != 0).mean(dtype=np.float64))
    yield compare(f"{label}, share)", mean, np.asarray(chance), bound)


def _of_uniform(name: str, drawn: torch.Tensor) -> Iterator[Comparison]:
    yield from moment_comparisons(name, drawn, 0.5, 1 / 12, 1 / 180)


def _uniform(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """By a generator and by the default one, which are separate calls below Python."""
    torch.manual_seed(SEED)
    yield from _of_uniform("rand", torch.rand(DRAWS, **_asked(dtype, device)))
    yield from _of_uniform("rand", torch.rand(DRAWS, dtype=dtype, device=device))


def _uniform_like(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    torch.manual_seed(SEED)
    yield from _of_uniform("rand_like", torch.rand_like(_untouched(dtype, device)))


def _uniform_in_place(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    drawn = _untouched(dtype, device).uniform_(-2, 4, generator=generator(device, SEED))
    yield from moment_comparisons("Tensor.uniform_", drawn, 1, 3, 36 * 36 / 180)


def _of_normal(name: str, drawn: torch.Tensor) -> Iterator[Comparison]:
    yield from moment_comparisons(name, drawn, 0, 1, 2)


def _normal(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    torch.manual_seed(SEED)
    yield from _of_normal("randn", torch.randn(DRAWS, **_asked(dtype, device)))
    yield from _of_normal("randn", torch.randn(DRAWS, dtype=dtype, device=device))


def _normal_like(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    torch.manual_seed(SEED)
    yield from _of_normal("randn_like", torch.randn_like(_untouched(dtype, device)))


def _normal_in_place(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    drawn = _untouched(dtype, device).normal_(3, 2, generator=generator(device, SEED))
    yield from moment_comparisons("Tensor.normal_", drawn, 3, 4, 2 * 16)


def _exponential(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    drawn = _untouched(dtype, device).exponential_(2.0, generator=generator(device, SEED))
    # Spread: the fourth central moment 9/16, minus 1/16.
    yield from moment_comparisons("Tensor.exponential_", drawn, 0.5, 0.25, 8 / 16)


def _poisson(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    rates = torch.full((DRAWS,), _RATE, dtype=dtype, device=device)
    drawn = torch.poisson(rates, generator=generator(device, SEED))
    # The fourth central moment is r + 3 r^2.
    spread = _RATE + 2 * _RATE**2
    yield from moment_comparisons("poisson", drawn, _RATE, _RATE, spread)


def _gamma(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    shapes = torch.full((DRAWS,), _RATE, dtype=dtype, device=device)
    drawn = torch._standard_gamma(shapes, generator=generator(device, SEED))
    # The fourth central moment is 3 a^2 + 6 a.
    spread = 2 * _RATE**2 + 6 * _RATE
    yield from moment_comparisons("_standard_gamma", drawn, _RATE, _RATE, spread)


def _integers(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """Of both forms, up to an end and from a start, by a generator and by the default one."""
    torch.manual_seed(SEED)
    own = _asked(dtype, device)
    asked: dict[str, Any] = {"dtype": dtype, "device": device}
    for low, drawn in (
        (0, torch.randint(8, (DRAWS,), **own)),
        (3, torch.randint(3, 11, (DRAWS,), **own)),
        (3, torch.randint(3, 11, (DRAWS,), **asked)),
    ):
        counts = np.bincount(drawn.long().cpu().numpy() - low, minlength=8)
        bound = 6 * math.sqrt(DRAWS / 8)
        label = f"randint ({_text(dtype)}, from {low})"
        yield compare(label, counts, np.full(8, DRAWS // 8), bound)

"""Random numbers: means, variances and shares within six standard deviations."""

import math
from collections.abc import Iterator

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.references import compare
from probes.tensor_ops.streams import SEED, generator
from probes.tensor_ops.trial import Custom, Trial, fact

_MANY = 1 << 15


def moments(device: str) -> Iterator[Trial]:
    """Means, variances and ranges of what is drawn, within six standard deviations."""
    trials = {
        "rand": _uniform,
        "randn": _normal,
        "randint": _integers,
        "bernoulli": _coins,
        "multinomial": _lots,
        "randperm": _permutation,
        "Tensor.exponential_": _exponential,
        "Tensor.uniform_": _in_place_uniform,
        "Tensor.normal_": _in_place_normal,
    }
    for name, body in trials.items():
        yield Custom(name, body)
    if has_dtype(device, torch.float64):
        yield Custom("rand", _wide_uniform)


def _wide_uniform(device: str) -> Iterator[Comparison]:
    drawn = torch.rand(_MANY, generator=generator(device, SEED), device=device, dtype=torch.float64)
    yield from _of("rand", drawn, 0.5, 1 / 12, 1 / 180)


def _of(
    name: str, drawn: torch.Tensor, mean: float, variance: float, spread: float
) -> Iterator[Comparison]:
    """Mean and variance of n draws within 6 sigma; `spread` is the variance of (x - mean)^2."""
    x = drawn.cpu().numpy().astype(np.float64)
    root = 6 / math.sqrt(x.size)
    yield compare(
        f"{name} (mean)", np.asarray(x.mean()), np.asarray(mean), root * math.sqrt(variance)
    )
    yield compare(
        f"{name} (variance)",
        np.asarray(((x - mean) ** 2).mean()),
        np.asarray(variance),
        root * math.sqrt(spread),
    )
    # Neighbours are independent: their products' mean has the standard deviation variance/sqrt(n).
    lag = float(((x[1:] - mean) * (x[:-1] - mean)).mean())
    yield compare(f"{name} (correlation)", np.asarray(lag), np.asarray(0.0), root * variance)


def _uniform(device: str) -> Iterator[Comparison]:
    drawn = torch.rand(_MANY, generator=generator(device, SEED), device=device)
    yield from _of("rand", drawn, 0.5, 1 / 12, 1 / 180)
    x = drawn.cpu().numpy()
    yield fact("rand (in [0, 1))", bool((x >= 0).all() and (x < 1).all()), True)
    counts = np.histogram(x, 64, (0, 1))[0]
    bound = 6 * math.sqrt(_MANY / 64)
    yield compare("rand (64 bins)", counts, np.full(64, _MANY // 64), bound)


def _normal(device: str) -> Iterator[Comparison]:
    drawn = torch.randn(_MANY, generator=generator(device, SEED), device=device)
    yield from _of("randn", drawn, 0, 1, 2)
    x = drawn.cpu().numpy()
    # Shares below -1, 0 and 1 by the normal distribution; 3 sigma of a share is below 1/2 sqrt(n).
    shares = np.array([(x < edge).mean() for edge in (-1, 0, 1)])
    right = np.array([math.erfc(-edge / math.sqrt(2)) / 2 for edge in (-1, 0, 1)])
    yield compare("randn (shares)", shares, right, 3 / math.sqrt(_MANY))


def _integers(device: str) -> Iterator[Comparison]:
    drawn = torch.randint(-3, 5, (_MANY,), generator=generator(device, SEED), device=device)
    counts = np.bincount(drawn.cpu().numpy() + 3, minlength=8)
    yield compare("randint", counts, np.full(8, _MANY // 8), 6 * math.sqrt(_MANY / 8))


def _coins(device: str) -> Iterator[Comparison]:
    chance = torch.full((_MANY,), 0.25, device=device)
    drawn = torch.bernoulli(chance, generator=generator(device, SEED)).cpu().numpy()
    yield fact("bernoulli (values)", sorted(set(drawn.tolist())), [0.0, 1.0])
    bound = 6 * math.sqrt(0.25 * 0.75 / _MANY)
    yield compare(
        "bernoulli (mean)", np.asarray(drawn.mean(dtype=np.float64)), np.asarray(0.25), bound
    )


def _lots(device: str) -> Iterator[Comparison]:
    weights = torch.tensor([1.0, 0.0, 3.0, 4.0], device=device)
    drawn = (
        torch.multinomial(weights, _MANY, replacement=True, generator=generator(device, SEED))
        .cpu()
        .numpy()
    )
    share = np.array([1, 0, 3, 4]) / 8
    bound = 6 * np.sqrt(share * (1 - share) * _MANY)
    yield compare("multinomial", np.bincount(drawn, minlength=4), share * _MANY, bound)
    once = (
        torch.multinomial(torch.ones(50, device=device), 50, generator=generator(device, SEED))
        .cpu()
        .numpy()
    )
    yield compare("multinomial (without replacement)", np.sort(once), np.arange(50))


def _permutation(device: str) -> Iterator[Comparison]:
    for count in (1, 9, 3001):
        drawn = torch.randperm(count, generator=generator(device, SEED), device=device)
        yield compare("randperm (each once)", np.sort(drawn.cpu().numpy()), np.arange(count))
    # The distance from the identity: n/3 on average, (n/sqrt 45) / sqrt n of standard deviation.
    distance = np.abs(drawn.cpu().numpy() - np.arange(3001)).mean()
    bound = 6 * 3001 / math.sqrt(45 * 3001) * 2
    yield compare("randperm (mixed)", np.asarray(distance), np.asarray(3001 / 3), bound)


def _exponential(device: str) -> Iterator[Comparison]:
    drawn = torch.full((_MANY,), -1.0, device=device)
    drawn.exponential_(2.0, generator=generator(device, SEED))
    yield from _of("Tensor.exponential_", drawn, 0.5, 0.25, 8 / 16)  # 4th moment 9/16, less 1/16


def _in_place_uniform(device: str) -> Iterator[Comparison]:
    drawn = torch.full((_MANY,), 99.0, device=device)
    drawn.uniform_(-2, 4, generator=generator(device, SEED))
    yield from _of("Tensor.uniform_", drawn, 1, 3, 36 * 36 / 180)


def _in_place_normal(device: str) -> Iterator[Comparison]:
    drawn = torch.full((_MANY,), 99.0, device=device)
    drawn.normal_(3, 2, generator=generator(device, SEED))
    yield from _of("Tensor.normal_", drawn, 3, 4, 2 * 16)

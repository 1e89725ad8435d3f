"""Random numbers: means, variances and shares within six standard deviations."""

import math
from collections.abc import Iterator

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.draws import DRAWS, SEED, generator, moment_comparisons
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact
from probes.tensor_ops.streams import default_generator


def moments(device: str) -> Iterator[Trial]:
    """Means, variances and ranges of random numbers, within six standard deviations."""
    trials = {
        "rand": _uniform,
        "randn": _normal,
        "randint": _integers,
        "bernoulli": _bernoulli,
        "multinomial": _multinomial,
        "randperm": _permutation,
        "Tensor.exponential_": _exponential,
        "Tensor.uniform_": _in_place_uniform,
        "Tensor.normal_": _in_place_normal,
        "manual_seed": _by_the_default_generator,
    }
    for name, body in trials.items():
        yield Custom(name, body)
    if has_dtype(device, torch.float64):
        yield Custom("rand", _uniform_float64)


def _uniform_float64(device: str) -> Iterator[Comparison]:
    drawn = torch.rand(DRAWS, generator=generator(device, SEED), device=device, dtype=torch.float64)
    yield from moment_comparisons("rand", drawn, 0.5, 1 / 12, 1 / 180)


def _uniform(device: str) -> Iterator[Comparison]:
    drawn = torch.rand(DRAWS, generator=generator(device, SEED), device=device)
    yield from moment_comparisons("rand", drawn, 0.5, 1 / 12, 1 / 180)
    x = drawn.cpu().numpy()
    yield fact("rand (in [0, 1))", bool((x >= 0).all() and (x < 1).all()), True)
    counts = np.histogram(x, 64, (0, 1))[0]
    bound = 6 * math.sqrt(DRAWS / 64)
    yield compare("rand (64 bins)", counts, np.full(64, DRAWS // 64), bound)


def _normal(device: str) -> Iterator[Comparison]:
    drawn = torch.randn(DRAWS, generator=generator(device, SEED), device=device)
    yield from moment_comparisons("randn", drawn, 0, 1, 2)
    x = drawn.cpu().numpy()
    # Shares below -1, 0 and 1; the standard deviation of a share is at most 1 / (2 sqrt(n)).
    shares = np.array([(x < edge).mean() for edge in (-1, 0, 1)])
    expected = np.array([math.erfc(-edge / math.sqrt(2)) / 2 for edge in (-1, 0, 1)])
    yield compare("randn (shares)", shares, expected, 3 / math.sqrt(DRAWS))


def _integers(device: str) -> Iterator[Comparison]:
    drawn = torch.randint(-3, 5, (DRAWS,), generator=generator(device, SEED), device=device)
    yield from _evenly("randint", drawn)


def _evenly(name: str, drawn: torch.Tensor) -> Iterator[Comparison]:
    """Each integer from -3 to 4 as often as the others."""
    counts = np.bincount(drawn.cpu().numpy() + 3, minlength=8)
    yield compare(name, counts, np.full(8, DRAWS // 8), 6 * math.sqrt(DRAWS / 8))


def _bernoulli(device: str) -> Iterator[Comparison]:
    chance = torch.full((DRAWS,), 0.25, device=device)
    drawn = torch.bernoulli(chance, generator=generator(device, SEED)).cpu().numpy()
    yield fact("bernoulli (values)", sorted(set(drawn.tolist())), [0.0, 1.0])
    bound = 6 * math.sqrt(0.25 * 0.75 / DRAWS)
    yield compare(
        "bernoulli (mean)", np.asarray(drawn.mean(dtype=np.float64)), np.asarray(0.25), bound
    )


def _multinomial(device: str) -> Iterator[Comparison]:
    weights = torch.tensor([1.0, 0.0, 3.0, 4.0], device=device)
    drawn = (
        torch.multinomial(weights, DRAWS, replacement=True, generator=generator(device, SEED))
        .cpu()
        .numpy()
    )
    share = np.array([1, 0, 3, 4]) / 8
    bound = 6 * np.sqrt(share * (1 - share) * DRAWS)
    yield compare("multinomial", np.bincount(drawn, minlength=4), share * DRAWS, bound)
    without_replacement = (
        torch.multinomial(torch.ones(50, device=device), 50, generator=generator(device, SEED))
        .cpu()
        .numpy()
    )
    yield compare("multinomial (without replacement)", np.sort(without_replacement), np.arange(50))


def _permutation(device: str) -> Iterator[Comparison]:
    for count in (1, 9, 3001):
        drawn = torch.randperm(count, generator=generator(device, SEED), device=device)
        yield compare("randperm (each once)", np.sort(drawn.cpu().numpy()), np.arange(count))
    # Mean distance |p(i) - i|: n/3 on average, with standard deviation n / sqrt(45 n).
    distance = np.abs(drawn.cpu().numpy() - np.arange(3001)).mean()
    bound = 6 * 3001 / math.sqrt(45 * 3001) * 2
    yield compare("randperm (mixed)", np.asarray(distance), np.asarray(3001 / 3), bound)


def _exponential(device: str) -> Iterator[Comparison]:
    drawn = torch.full((DRAWS,), -1.0, device=device)
    drawn.exponential_(2.0, generator=generator(device, SEED))
    # Spread: the fourth central moment 9/16, minus 1/16.
    yield from moment_comparisons("Tensor.exponential_", drawn, 0.5, 0.25, 8 / 16)


def _in_place_uniform(device: str) -> Iterator[Comparison]:
    drawn = torch.full((DRAWS,), 99.0, device=device)
    drawn.uniform_(-2, 4, generator=generator(device, SEED))
    yield from moment_comparisons("Tensor.uniform_", drawn, 1, 3, 36 * 36 / 180)


def _in_place_normal(device: str) -> Iterator[Comparison]:
    drawn = torch.full((DRAWS,), 99.0, device=device)
    drawn.normal_(3, 2, generator=generator(device, SEED))
    yield from moment_comparisons("Tensor.normal_", drawn, 3, 4, 2 * 16)


def _by_the_default_generator(device: str) -> Iterator[Comparison]:
    """As models draw: below Python these are calls of their own."""
    with default_generator(device, SEED):
        like = torch.empty(DRAWS, device=device)
        for name, drawn in (
            ("rand", torch.rand(DRAWS, device=device)),
            ("rand_like", torch.rand_like(like)),
        ):
            yield from moment_comparisons(f"{name} by default", drawn, 0.5, 1 / 12, 1 / 180)
        for name, drawn in (
            ("randn", torch.randn(DRAWS, device=device)),
            ("randn_like", torch.randn_like(like)),
        ):
            yield from moment_comparisons(f"{name} by default", drawn, 0, 1, 2)
        drawn = torch.randint(-3, 5, (DRAWS,), device=device)
        yield from _evenly("randint by default", drawn)

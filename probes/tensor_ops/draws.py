"""Random numbers: the documented streams bit for bit, seeds, and the distributions' moments."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.contract import Comparison
from probes.references import compare
from probes.tensor_ops.operands import F32
from probes.tensor_ops.trial import Array, Custom, Trial, fact, has_double

_SEED = 20240229
_GOLDEN = 4096  # the first wave of threads on every GPU: beyond it the stream differs by model
_MANY = 1 << 15


def _generator(device: str, seed: int) -> torch.Generator:
    """A generator of the probe's own: the user's stays as it is."""
    return torch.Generator(device=device).manual_seed(seed)


def mersenne(device: str) -> Iterator[Trial]:
    """On the CPU a seed gives the numbers of MT19937, as NumPy has them."""
    if torch.device(device).type != "cpu":
        return
    yield Custom("rand", _mersenne_rand)
    yield Custom("randint", _mersenne_integers)
    yield Custom("randn", _mersenne_normal)


def _raw(count: int) -> Array:
    """32-bit outputs of MT19937 seeded by Knuth's recurrence, as `manual_seed` does."""
    twister = np.random.MT19937()
    twister._legacy_seeding(_SEED)
    return np.asarray(twister.random_raw(count))


def _mersenne_rand(device: str) -> Iterator[Comparison]:
    for count in (5, 1000):
        raw = _raw(count)
        expected = ((raw & (2**24 - 1)) * 2.0**-24).astype(F32)
        drawn = torch.rand(count, generator=_generator(device, _SEED), device=device)
        yield compare("rand (float32)", drawn, expected)
        raw = _raw(2 * count)
        wide = (raw[::2] << np.uint64(32)) | raw[1::2]
        doubles = (wide & np.uint64(2**53 - 1)).astype(np.float64) * 2.0**-53
        drawn = torch.rand(count, generator=_generator(device, _SEED), dtype=torch.float64)
        yield compare("rand (float64)", drawn, doubles)


def _mersenne_integers(device: str) -> Iterator[Comparison]:
    drawn = torch.randint(-5, 995, (1000,), generator=_generator(device, _SEED), device=device)
    yield compare("randint", drawn, (_raw(1000) % 1000).astype(np.int64) - 5)


def _mersenne_normal(device: str) -> Iterator[Comparison]:
    """Box-Muller on rows of 16: the first eight are radii, the others angles."""
    drawn = torch.randn(1024, generator=_generator(device, _SEED), device=device)
    uniform = ((_raw(1024) & (2**24 - 1)) * 2.0**-24).reshape(64, 2, 8)
    radius = np.sqrt(-2 * np.log(1 - uniform[:, 0]))
    angle = 2 * math.pi * uniform[:, 1]
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(1024)
    # Radii reach 6 and angles 2 pi in float32: some units of their product.
    yield compare("randn", drawn, expected.astype(F32), 6 * 2 * math.pi * 4 * 2.0**-24)


def philox(device: str) -> Iterator[Trial]:
    """On CUDA and HIP a seed gives the numbers of Philox4x32-10, the same on every model."""
    if torch.device(device).type == "cuda":
        yield Custom("rand", _philox_rand)


def philox_uniform(seed: int, count: int) -> Array:
    """`torch.rand(count)` of a fresh generator on CUDA: key = seed, counter = (0, 0, i, 0).

    Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC'11), and cuRAND's uniform:
    x 2^-32 + 2^-33 in (0, 1], of which torch turns 1 into 0.
    """
    mask = np.uint64(0xFFFFFFFF)
    zero = np.zeros(count, np.uint64)
    c = [zero, zero, np.arange(count, dtype=np.uint64), zero]
    k = [np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)]
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [
            (q >> np.uint64(32)) ^ c[1] ^ k[0],
            q & mask,
            (p >> np.uint64(32)) ^ c[3] ^ k[1],
            p & mask,
        ]
        k = [(k[0] + np.uint64(0x9E3779B9)) & mask, (k[1] + np.uint64(0xBB67AE85)) & mask]
    uniform = c[0].astype(F32) * F32(2.0**-32) + F32(2.0**-33)
    return np.asarray(np.where(uniform == 1, F32(0), uniform))


def _philox_rand(device: str) -> Iterator[Comparison]:
    drawn = torch.rand(_GOLDEN, generator=_generator(device, _SEED), device=device)
    yield compare("rand (Philox)", drawn, philox_uniform(_SEED, _GOLDEN))


_DRAWS: dict[str, Callable[[torch.Generator, str], torch.Tensor]] = {
    "rand": lambda g, device: torch.rand(64, generator=g, device=device),
    "randn": lambda g, device: torch.randn(64, generator=g, device=device),
    "randint": lambda g, device: torch.randint(1 << 20, (64,), generator=g, device=device),
    "randperm": lambda g, device: torch.randperm(64, generator=g, device=device),
    "Tensor.uniform_": lambda g, device: torch.zeros(64, device=device).uniform_(generator=g),
    "bernoulli": lambda g, device: torch.bernoulli(
        torch.full((64,), 0.5, device=device), generator=g
    ),
    "multinomial": lambda g, device: torch.multinomial(
        torch.ones(50, device=device), 64, replacement=True, generator=g
    ),
}


def seeds(_device: str) -> Iterator[Trial]:
    """A seed repeats its numbers, another gives others, and a saved state goes on where it was."""
    for name, draw in _DRAWS.items():
        yield Custom(name, partial(_repeats, name, draw))
    yield Custom("manual_seed", _global_seed)


def _repeats(
    name: str, draw: Callable[[torch.Generator, str], torch.Tensor], device: str
) -> Iterator[Comparison]:
    one, other = _generator(device, 1), _generator(device, 2)
    first = draw(one, device).cpu().numpy()
    state = one.get_state()
    second = draw(one, device).cpu().numpy()
    again = draw(_generator(device, 1), device)
    yield compare(f"{name} (same seed)", again, first)
    one.set_state(state)
    yield compare(f"{name} (restored state)", draw(one, device), second)
    differ = (np.array_equal(first, second), np.array_equal(first, draw(other, device).cpu()))
    yield fact(f"{name} (equal: next draw, other seed)", differ, (False, False))


def _global_seed(device: str) -> Iterator[Comparison]:
    kind = torch.device(device).type
    module: Any = torch if kind == "cpu" else getattr(torch, kind)
    where = () if kind in {"cpu", "mps"} else (device,)
    host, state = torch.get_rng_state(), module.get_rng_state(*where)
    try:
        torch.manual_seed(7)
        first = torch.rand(64, device=device).cpu().numpy()
        torch.manual_seed(7)
        yield compare("manual_seed (same)", torch.rand(64, device=device), first)
        torch.manual_seed(8)
        other = torch.rand(64, device=device).cpu().numpy()
        yield fact("manual_seed (other)", np.array_equal(first, other), False)
    finally:
        torch.set_rng_state(host)
        module.set_rng_state(state, *where)


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
    if has_double(device):
        yield Custom("rand", _wide_uniform)


def _wide_uniform(device: str) -> Iterator[Comparison]:
    drawn = torch.rand(
        _MANY, generator=_generator(device, _SEED), device=device, dtype=torch.float64
    )
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
    drawn = torch.rand(_MANY, generator=_generator(device, _SEED), device=device)
    yield from _of("rand", drawn, 0.5, 1 / 12, 1 / 180)
    x = drawn.cpu().numpy()
    yield fact("rand (in [0, 1))", bool((x >= 0).all() and (x < 1).all()), True)
    counts = np.histogram(x, 64, (0, 1))[0]
    bound = 6 * math.sqrt(_MANY / 64)
    yield compare("rand (64 bins)", counts, np.full(64, _MANY // 64), bound)


def _normal(device: str) -> Iterator[Comparison]:
    drawn = torch.randn(_MANY, generator=_generator(device, _SEED), device=device)
    yield from _of("randn", drawn, 0, 1, 2)
    x = drawn.cpu().numpy()
    # Shares below -1, 0 and 1 by the normal distribution; 3 sigma of a share is below 1/2 sqrt(n).
    shares = np.array([(x < edge).mean() for edge in (-1, 0, 1)])
    right = np.array([math.erfc(-edge / math.sqrt(2)) / 2 for edge in (-1, 0, 1)])
    yield compare("randn (shares)", shares, right, 3 / math.sqrt(_MANY))


def _integers(device: str) -> Iterator[Comparison]:
    drawn = torch.randint(-3, 5, (_MANY,), generator=_generator(device, _SEED), device=device)
    counts = np.bincount(drawn.cpu().numpy() + 3, minlength=8)
    yield compare("randint", counts, np.full(8, _MANY // 8), 6 * math.sqrt(_MANY / 8))


def _coins(device: str) -> Iterator[Comparison]:
    chance = torch.full((_MANY,), 0.25, device=device)
    drawn = torch.bernoulli(chance, generator=_generator(device, _SEED)).cpu().numpy()
    yield fact("bernoulli (values)", sorted(set(drawn.tolist())), [0.0, 1.0])
    bound = 6 * math.sqrt(0.25 * 0.75 / _MANY)
    yield compare(
        "bernoulli (mean)", np.asarray(drawn.mean(dtype=np.float64)), np.asarray(0.25), bound
    )


def _lots(device: str) -> Iterator[Comparison]:
    weights = torch.tensor([1.0, 0.0, 3.0, 4.0], device=device)
    drawn = (
        torch.multinomial(weights, _MANY, replacement=True, generator=_generator(device, _SEED))
        .cpu()
        .numpy()
    )
    share = np.array([1, 0, 3, 4]) / 8
    bound = 6 * np.sqrt(share * (1 - share) * _MANY)
    yield compare("multinomial", np.bincount(drawn, minlength=4), share * _MANY, bound)
    once = (
        torch.multinomial(torch.ones(50, device=device), 50, generator=_generator(device, _SEED))
        .cpu()
        .numpy()
    )
    yield compare("multinomial (without replacement)", np.sort(once), np.arange(50))


def _permutation(device: str) -> Iterator[Comparison]:
    for count in (1, 9, 3001):
        drawn = torch.randperm(count, generator=_generator(device, _SEED), device=device)
        yield compare("randperm (each once)", np.sort(drawn.cpu().numpy()), np.arange(count))
    # The distance from the identity: n/3 on average, (n/sqrt 45) / sqrt n of standard deviation.
    distance = np.abs(drawn.cpu().numpy() - np.arange(3001)).mean()
    bound = 6 * 3001 / math.sqrt(45 * 3001) * 2
    yield compare("randperm (mixed)", np.asarray(distance), np.asarray(3001 / 3), bound)


def _exponential(device: str) -> Iterator[Comparison]:
    drawn = torch.full((_MANY,), -1.0, device=device)
    drawn.exponential_(2.0, generator=_generator(device, _SEED))
    yield from _of("Tensor.exponential_", drawn, 0.5, 0.25, 8 / 16)  # 4th moment 9/16, less 1/16


def _in_place_uniform(device: str) -> Iterator[Comparison]:
    drawn = torch.full((_MANY,), 99.0, device=device)
    drawn.uniform_(-2, 4, generator=_generator(device, _SEED))
    yield from _of("Tensor.uniform_", drawn, 1, 3, 36 * 36 / 180)


def _in_place_normal(device: str) -> Iterator[Comparison]:
    drawn = torch.full((_MANY,), 99.0, device=device)
    drawn.normal_(3, 2, generator=_generator(device, _SEED))
    yield from _of("Tensor.normal_", drawn, 3, 4, 2 * 16)

"""Random streams with documented algorithms, compared bit for bit."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import back_end
from probes.kit.case import Array
from probes.kit.draws import SEED, generator
from probes.kit.generators import random_state_kept
from probes.kit.operands import F32
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial

_COMMON_COUNT = 4096  # every GPU has as many threads; numbers beyond differ by model


@contextmanager
def default_generator(device: str, seed: int) -> Iterator[None]:
    """Seed the default generators by `torch.manual_seed`, and restore their states afterwards."""
    with random_state_kept(device):
        torch.manual_seed(seed)
        yield


def mersenne(device: str) -> Iterator[Trial]:
    """On the CPU a seed gives the numbers of NumPy's MT19937."""
    if torch.device(device).type != "cpu":
        return
    yield Custom("rand", _mersenne_rand)
    yield Custom("randint", _mersenne_integers)
    yield Custom("randn", _mersenne_normal)
    yield Custom("manual_seed", _mersenne_default)


def _mt19937_outputs(count: int) -> Array:
    """32-bit outputs of MT19937 seeded by Knuth's recurrence, as `manual_seed` does."""
    twister = np.random.MT19937()
    twister._legacy_seeding(SEED)
    return np.asarray(twister.random_raw(count))


def _expected_uniform(count: int) -> Array:
    """The expected float32 numbers in [0, 1): the lower 24 bits."""
    return ((_mt19937_outputs(count) & (2**24 - 1)) * 2.0**-24).astype(F32)


def _mersenne_rand(device: str) -> Iterator[Comparison]:
    for count in (5, 1000):
        drawn = torch.rand(count, generator=generator(device, SEED), device=device)
        yield compare("rand (float32)", drawn, _expected_uniform(count))
        raw = _mt19937_outputs(2 * count)
        wide = (raw[::2] << np.uint64(32)) | raw[1::2]
        doubles = (wide & np.uint64(2**53 - 1)).astype(np.float64) * 2.0**-53
        drawn = torch.rand(count, generator=generator(device, SEED), dtype=torch.float64)
        yield compare("rand (float64)", drawn, doubles)
    filled = torch.zeros(1000, device=device).uniform_(-2, 6, generator=generator(device, SEED))
    # The product by 8 is exact; the sum is rounded once.
    yield compare("Tensor.uniform_", filled, _expected_uniform(1000) * 8 - 2, 2.0**-22)


def _mersenne_integers(device: str) -> Iterator[Comparison]:
    drawn = torch.randint(-5, 995, (1000,), generator=generator(device, SEED), device=device)
    yield compare("randint", drawn, (_mt19937_outputs(1000) % 1000).astype(np.int64) - 5)
    drawn = torch.randint(1000, (1000,), generator=generator(device, SEED), device=device)
    yield compare("randint", drawn, (_mt19937_outputs(1000) % 1000).astype(np.int64))


def _expected_normal(count: int) -> Array:
    """The expected normal numbers: Box-Muller on rows of 16, eight radii, then eight angles."""
    uniform = _expected_uniform(count).astype(np.float64).reshape(-1, 2, 8)
    radius = np.sqrt(-2 * np.log(1 - uniform[:, 0]))
    angle = 2 * math.pi * uniform[:, 1]
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return np.asarray(both.reshape(count), F32)


#: Four units of the product of the largest radius, 6, and angle, 2 pi.
_NORMAL_ERROR = 6 * 2 * math.pi * 4 * 2.0**-24


def _mersenne_normal(device: str) -> Iterator[Comparison]:
    drawn = torch.randn(1024, generator=generator(device, SEED), device=device)
    yield compare("randn", drawn, _expected_normal(1024), _NORMAL_ERROR)
    filled = torch.zeros(1024, device=device).normal_(3, 2, generator=generator(device, SEED))
    yield compare("Tensor.normal_", filled, _expected_normal(1024) * 2 + 3, 3 * _NORMAL_ERROR)


def _mersenne_default(device: str) -> Iterator[Comparison]:
    with default_generator(device, SEED):
        yield compare(
            "manual_seed (rand)", torch.rand(1000, device=device), _expected_uniform(1000)
        )
    with default_generator(device, SEED):
        drawn = torch.randn(1024, device=device)
        yield compare("manual_seed (randn)", drawn, _expected_normal(1024), _NORMAL_ERROR)


def philox(device: str) -> Iterator[Trial]:
    """On CUDA and HIP a seed gives the numbers of Philox4x32-10, the same on every model.

    To map integers to [0, 1), cuRAND computes x 2^-32 + 2^-33, and rocRAND x 2^-32, fused or not:
    on HIP the difference and one rounding are allowed.
    """
    if torch.device(device).type == "cuda":
        yield Custom("rand", _philox_rand)


def philox_integers(seed: int, count: int) -> Array:
    """The 32-bit numbers of a fresh generator on a GPU: key = seed, counter = (0, 0, i, 0).

    Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC'11).
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
    return c[0]


def philox_uniform(seed: int, count: int) -> Array:
    """`torch.rand(count)` of a fresh generator on CUDA, float32.

    cuRAND's uniform: x 2^-32 + 2^-33 in (0, 1]; torch replaces 1 by 0.
    """
    uniform = philox_integers(seed, count).astype(F32) * F32(2.0**-32) + F32(2.0**-33)
    return np.asarray(np.where(uniform == 1, F32(0), uniform))


def _philox_rand(device: str) -> Iterator[Comparison]:
    expected = philox_uniform(SEED, _COMMON_COUNT)
    allowed = None
    if back_end(device) == "hip":
        allowed = np.spacing(expected).astype(np.float64) + 2.0**-32
    drawn = torch.rand(_COMMON_COUNT, generator=generator(device, SEED), device=device)
    yield compare("rand (Philox)", drawn, expected, allowed)
    with default_generator(device, SEED):
        drawn = torch.rand(_COMMON_COUNT, device=device)
    yield compare("manual_seed (Philox)", drawn, expected, allowed)

"""Seeds: the same seed repeats numbers, another seed does not, a saved state continues."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.draws import generator
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact
from probes.tensor_ops.streams import default_generator

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
    """A seed repeats its numbers, another seed does not, and a restored state continues."""
    for name, draw in _DRAWS.items():
        yield Custom(name, partial(_seed_comparisons, name, draw))
    yield Custom("manual_seed", _global_seed)


def _seed_comparisons(
    name: str, draw: Callable[[torch.Generator, str], torch.Tensor], device: str
) -> Iterator[Comparison]:
    same, different = generator(device, 1), generator(device, 2)
    first = draw(same, device).cpu().numpy()
    state = same.get_state()
    second = draw(same, device).cpu().numpy()
    repeated = draw(generator(device, 1), device)
    yield compare(f"{name} (same seed)", repeated, first)
    same.set_state(state)
    yield compare(f"{name} (restored state)", draw(same, device), second)
    differ = (np.array_equal(first, second), np.array_equal(first, draw(different, device).cpu()))
    yield fact(f"{name} (equal: next draw, other seed)", differ, (False, False))


def _global_seed(device: str) -> Iterator[Comparison]:
    drawn = []
    for seed in (7, 7, 8):
        with default_generator(device, seed):
            drawn.append(torch.rand(64, device=device).cpu().numpy())
    yield compare("manual_seed (same)", drawn[1], drawn[0])
    yield fact("manual_seed (other)", np.array_equal(drawn[0], drawn[2]), False)

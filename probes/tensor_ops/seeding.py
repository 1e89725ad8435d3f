"""What a seed promises: the same numbers again, others for another, and states that go on."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.references import compare
from probes.tensor_ops.streams import default_generator, generator
from probes.tensor_ops.trial import Custom, Trial, fact

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
    one, other = generator(device, 1), generator(device, 2)
    first = draw(one, device).cpu().numpy()
    state = one.get_state()
    second = draw(one, device).cpu().numpy()
    again = draw(generator(device, 1), device)
    yield compare(f"{name} (same seed)", again, first)
    one.set_state(state)
    yield compare(f"{name} (restored state)", draw(one, device), second)
    differ = (np.array_equal(first, second), np.array_equal(first, draw(other, device).cpu()))
    yield fact(f"{name} (equal: next draw, other seed)", differ, (False, False))


def _global_seed(device: str) -> Iterator[Comparison]:
    drawn = []
    for seed in (7, 7, 8):
        with default_generator(device, seed):
            drawn.append(torch.rand(64, device=device).cpu().numpy())
    yield compare("manual_seed (same)", drawn[1], drawn[0])
    yield fact("manual_seed (other)", np.array_equal(drawn[0], drawn[2]), False)

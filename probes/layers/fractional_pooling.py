"""Fractional maximum pooling."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from probes.contract import Comparison
from probes.kit.gradients import host, leaf, root, tensor
from probes.kit.operands import coarse, odd
from probes.kit.references import compare
from probes.layers.pools import LEAD, ranked
from probes.layers.selection import picked


def fractional(axes: int, device: str) -> Iterator[Comparison]:
    """Each output is the element at its index, and gradients go there.

    Windows are drawn; here what is drawn is given, so that no generator moves. They are large
    enough to reach each element, so that the largest of a plane is among the outputs.
    """
    shape, outputs = ((9, 10), (4, 5)) if axes == 2 else ((6, 5, 7), (3, 2, 3))
    name = f"fractional_max_pool{axes}d"
    x = ranked((*LEAD, *shape), 187)
    given = leaf(x, device)
    samples = tensor(coarse((*LEAD, axes), 0.1, 0.9, 188), device, torch.float32)
    call = getattr(functional, f"{name}_with_indices")
    found, at = call(given, 3, outputs, _random_samples=samples)
    picks = at.cpu().numpy()
    inside = bool(((picks >= 0) & (picks < np.prod(shape))).all())
    yield Comparison(operation=f"{name} (indices)", elements=1, problem="" if inside else "outside")
    if not inside or picks.shape != (*LEAD, *outputs):
        return
    value, back = picked(x, axes, picks)
    yield compare(f"{name} (values)", host(found), value.astype(np.float32))
    largest = np.sort(x.reshape(*LEAD, -1))[..., -1]
    yield compare(f"{name} (largest)", host(found.flatten(2).max(2)[0]), largest.astype(np.float32))
    upstream = odd(picks.shape, 189)
    (gradient,) = torch.autograd.grad(root(found, tensor(upstream, device)), given)
    yield compare(f"{name} (gradient)", host(gradient), back(upstream).astype(np.float32))

"""The random generators of the host and of a device: their states, kept and restored."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def states(device: str) -> list[torch.Tensor]:
    """The states of the host's generator and, where it has one, of the device's."""
    module, where = _owner(device)
    return [torch.get_rng_state(), *([] if module is None else [module.get_rng_state(*where)])]


@contextmanager
def random_state_kept(device: str) -> Iterator[None]:
    """Restore the random states of the host and of the device at the end."""
    kept = states(device)
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        module, where = _owner(device)
        if module is not None:
            module.set_rng_state(kept[1], *where)


def _owner(device: str) -> tuple[Any, tuple[torch.device, ...]]:
    """The module that has the device's generator, None where there is none, and its arguments."""
    kind = torch.device(device).type
    module: Any = getattr(torch, kind)
    if kind == "cpu" or not hasattr(module, "get_rng_state"):
        return None, ()
    return module, () if kind == "mps" else (torch.device(device),)

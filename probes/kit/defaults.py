"""Torch's own defaults while a probe looks, whatever a plug-in or sitecustomize has set.

A changed default changes the right answer of half the calls: it is one finding, not thirty.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import torch

from probes.kit.tensors import accelerator_type

_DTYPE: Final = "torch.get_default_dtype()"
_DEVICE: Final = "torch.get_default_device()"
_DETERMINISTIC: Final = "torch.are_deterministic_algorithms_enabled()"
_AUTOCAST: Final = "torch.is_autocast_enabled('{}')"

_HOST: Final = "cpu"

_found: list[dict[str, str]] = []  # by the pins that are in force, outermost first


def changed() -> dict[str, str]:
    """The defaults that are not torch's own, call -> what it says; as found before any pin."""
    return dict(_found[0]) if _found else _differing()


@contextmanager
def pinned() -> Iterator[None]:
    """Torch's own default dtype, device, algorithms and no autocast; what was set comes back."""
    found = _differing()
    _found.append(found)
    try:
        with ExitStack() as undo:
            for name in found:
                _pin(name, undo)
            yield
    finally:
        _found.pop()


def _differing() -> dict[str, str]:
    found: dict[str, str] = {}
    if torch.get_default_dtype() != torch.float32:
        found[_DTYPE] = str(torch.get_default_dtype())
    device = _default_device()
    if device is not None and device.type != _HOST:
        found[_DEVICE] = str(device)
    if torch.are_deterministic_algorithms_enabled():
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        found[_DETERMINISTIC] = "True, to warn only" if warn_only else "True"
    for kind in {_HOST, accelerator_type() or _HOST}:
        if _autocast(kind):
            found[_AUTOCAST.format(kind)] = "True"
    return found


def _default_device() -> torch.device | None:
    """Where tensors are made when nobody says where; None where nobody has set it.

    Not by torch.get_default_device, which makes a tensor there: a sick GPU would raise for all.
    """
    module = sys.modules.get("torch.utils._device")  # imported by who sets a device
    found: torch.device | None = getattr(module, "CURRENT_DEVICE", None)
    return found


def _autocast(kind: str) -> bool:
    """Whether autocast is on for that type of device, in this thread."""
    try:
        return bool(torch.is_autocast_enabled(kind))
    except TypeError:  # before torch 2.4 it was asked without a type, and meant CUDA
        if kind == _HOST:
            return bool(torch.is_autocast_cpu_enabled())
        return kind == "cuda" and bool(torch.is_autocast_enabled())
    except RuntimeError:  # no autocast for this back-end
        return False


def _pin(name: str, undo: ExitStack) -> None:
    """Put one default right, and have `undo` put back what was there."""
    if name == _DTYPE:
        undo.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
    elif name == _DEVICE:
        undo.callback(torch.set_default_device, _default_device())
        torch.set_default_device(None)
    elif name == _DETERMINISTIC:
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        undo.callback(torch.use_deterministic_algorithms, True, warn_only=warn_only)
        torch.use_deterministic_algorithms(False)
    else:
        kind = name.partition("'")[2].partition("'")[0]
        undo.enter_context(torch.autocast(kind, enabled=False))

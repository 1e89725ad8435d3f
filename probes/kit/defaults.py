"""Restores torch's own defaults while a probe observes, if a plug-in or sitecustomize changed them.

A changed default changes the right answer of half of the calls: it is one finding, not thirty.
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
_ANOMALIES: Final = "torch.is_anomaly_enabled()"
_AUTOCAST: Final = "torch.is_autocast_enabled('{}')"

_HOST: Final = "cpu"

_pinned_changes: list[dict[str, str]] = []  # one entry for each `pinned` block, outermost first


def changed() -> dict[str, str]:
    """Changed defaults: torch's call -> its value, as they were before any `pinned` block."""
    return dict(_pinned_changes[0]) if _pinned_changes else _changed_defaults()


@contextmanager
def pinned() -> Iterator[None]:
    """Set torch's own dtype, device, algorithms, no autocast, no search for NaN; restore them."""
    changes = _changed_defaults()
    _pinned_changes.append(changes)
    try:
        with ExitStack() as undo:
            for name in changes:
                _pin(name, undo)
            yield
    finally:
        _pinned_changes.pop()


def _changed_defaults() -> dict[str, str]:
    changes: dict[str, str] = {}
    if torch.get_default_dtype() != torch.float32:
        changes[_DTYPE] = str(torch.get_default_dtype())
    device = _default_device()
    if device is not None and device.type != _HOST:
        changes[_DEVICE] = str(device)
    if torch.are_deterministic_algorithms_enabled():
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        changes[_DETERMINISTIC] = "True, to warn only" if warn_only else "True"
    if torch.is_anomaly_enabled():
        changes[_ANOMALIES] = "True"
    for kind in {_HOST, accelerator_type() or _HOST}:
        if _autocast(kind):
            changes[_AUTOCAST.format(kind)] = "True"
    return changes


def _default_device() -> torch.device | None:
    """The default device if one was set; else None.

    torch.get_default_device would make a tensor there, and raise if that GPU is broken.
    """
    module = sys.modules.get("torch.utils._device")  # imported when a default device is set
    changes: torch.device | None = getattr(module, "CURRENT_DEVICE", None)
    return changes


def _autocast(kind: str) -> bool:
    """Whether autocast is on for that type of device, in this thread."""
    try:
        return bool(torch.is_autocast_enabled(kind))
    except TypeError:  # before torch 2.4 it took no type, and meant CUDA
        if kind == _HOST:
            return bool(torch.is_autocast_cpu_enabled())
        return kind == "cuda" and bool(torch.is_autocast_enabled())
    except RuntimeError:  # no autocast for this back-end
        return False


def _pin(name: str, undo: ExitStack) -> None:
    """Set one default to torch's own, and let `undo` restore the old value."""
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
    elif name == _ANOMALIES:
        undo.enter_context(torch.autograd.set_detect_anomaly(False))
    else:
        kind = name.partition("'")[2].partition("'")[0]
        undo.enter_context(torch.autocast(kind, enabled=False))

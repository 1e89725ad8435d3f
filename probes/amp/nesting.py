"""Regions of autocast within one another, left by exceptions, as decorators, in threads.

The type that a product comes out in tells which region is in force; torch's own answers have
other names in other versions.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.amp.regions import (
    DEFAULTS,
    autocast,
    compare_typed,
    interrupt,
    kind,
    lower_types,
    name_of,
    plain,
)
from probes.contract import Comparison
from probes.kit.gradients import integers, tensor
from probes.kit.trial import Custom, Trial, fact

_SINGLE: Final = torch.float32

#: For a thread that computes one product.
_THREAD_SECONDS: Final = 30.0


def nesting(device: str) -> Iterator[Trial]:
    """Which type is in force in each region, and behind it."""
    bodies: dict[str, Callable[..., Iterator[Comparison]]] = {
        "region": _restored,
        "enabled=False": _disabled,
        "exception": _exception,
        "decorator": _decorator,
        "thread": _thread,
        "values": _values,
    }
    types = lower_types(device)
    for lower in types:
        for name, body in bodies.items():
            yield Custom(f"{name} {name_of(lower)}", partial(body, lower), lower)
    for outer, inner in zip(types, reversed(types), strict=True):
        if outer != inner:
            yield Custom(
                f"{name_of(inner)} in {name_of(outer)}", partial(_other, outer, inner), inner
            )
    if kind(device) in DEFAULTS:
        yield Custom("default type", _default)
    if kind(device) != "cpu":
        yield Custom("the CPU's region", _of_the_host)


def _type(device: str) -> str:
    """The type in which a product of float32 comes out now."""
    ones = torch.ones((2, 2), dtype=_SINGLE, device=device)
    return name_of(torch.mm(ones, ones).dtype)


def _restored(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """One region, the same within itself, and the same object once more."""
    found = [_type(device)]
    region = autocast(device, lower)
    for _ in range(2):
        with region:
            found.append(_type(device))
            with autocast(device, lower):
                found.append(_type(device))
            found.append(_type(device))
        found.append(_type(device))
    low = name_of(lower)
    yield fact(f"region {low} (types)", found, ["float32", *([low] * 3 + ["float32"]) * 2])


def _disabled(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """A region that is switched off, in one that is on, with one that is on within it."""
    found = []
    with plain(device):
        found.append(_type(device))
    with autocast(device, lower):
        with plain(device):
            found.append(_type(device))
            with autocast(device, lower):
                found.append(_type(device))
            found.append(_type(device))
        found.append(_type(device))
    low = name_of(lower)
    right = ["float32", "float32", low, "float32", low]
    yield fact(f"enabled=False {low} (types)", found, right)


def _exception(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Out of the inner region, and out of both."""
    found = []
    with suppress(InterruptedError), autocast(device, lower):
        with suppress(InterruptedError), plain(device):
            interrupt()
        found.append(_type(device))
        with plain(device):
            interrupt()
    found.append(_type(device))
    low = name_of(lower)
    yield fact(f"exception {low} (types)", found, [low, "float32"])


def _decorator(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """Around a function: while it runs, and not behind it; one that raises too."""

    @autocast(device, lower)  # type: ignore[untyped-decorator]
    def inside(*, raises: bool) -> str:
        if raises:
            interrupt()
        with autocast(device, enabled=False):
            outside = _type(device)
        return f"{_type(device)}, {outside}"

    found = [inside(raises=False), _type(device)]
    with suppress(InterruptedError):
        inside(raises=True)
    found.append(_type(device))
    low = name_of(lower)
    yield fact(f"decorator {low} (types)", found, [f"{low}, float32", "float32", "float32"])


def _thread(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """A region is in force in its own thread alone, as documented."""
    found: list[str] = []
    left, entered = threading.Event(), threading.Event()

    def other() -> None:
        found.append(_type(device))
        with autocast(device, lower):
            entered.set()
            left.wait(_THREAD_SECONDS)

    thread = threading.Thread(target=other, daemon=True)
    with autocast(device, lower):
        thread.start()
        entered.wait(_THREAD_SECONDS)
    found.append(_type(device))
    left.set()
    thread.join(_THREAD_SECONDS)
    yield fact(f"thread {name_of(lower)} (types)", found, ["float32", "float32"])


def _values(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """A product that the lower types cannot hold, in a region that is switched off."""
    a = np.array([[2.0**17, 1.0], [3.0, 2.0**17]])
    x, eye = tensor(a, device), tensor(np.eye(2), device)
    weight = tensor(np.eye(2), device).requires_grad_()
    low = name_of(lower)
    with autocast(device, lower):
        torch.mm(eye, weight)
        with plain(device):
            found = torch.mm(x, weight)
            half = torch.mm(eye.to(lower), eye.to(lower))
    yield compare_typed(f"values {low} (float32)", found, _SINGLE, a)
    yield compare_typed(f"values {low} ({low})", half, lower, np.eye(2))


def _other(outer: torch.dtype, inner: torch.dtype, device: str) -> Iterator[Comparison]:
    """Another lower type within a region."""
    found = []
    a, b = integers((3, 8), 110), integers((8, 3), 111)
    with autocast(device, outer):
        found.append(_type(device))
        with autocast(device, inner):
            found.append(_type(device))
            product = torch.mm(tensor(a, device), tensor(b, device))
        found.append(_type(device))
    label = f"{name_of(inner)} in {name_of(outer)}"
    right = [name_of(outer), name_of(inner), name_of(outer)]
    yield fact(f"{label} (types)", found, right)
    yield compare_typed(f"{label} (product)", product, inner, a @ b)


def _default(device: str) -> Iterator[Comparison]:
    """Where no type is given; another type before it is forgotten."""
    right = DEFAULTS[kind(device)]
    for lower in lower_types(device):
        with autocast(device, lower):
            pass
    if right in lower_types(device):
        with autocast(device):
            found = _type(device)
        yield fact("default type (type)", found, name_of(right))


def _of_the_host(device: str) -> Iterator[Comparison]:
    """It is none for this device."""
    with autocast("cpu", torch.bfloat16):
        found: Any = _type(device), _type("cpu")
    yield fact("the CPU's region (types)", found, ("float32", "bfloat16"))

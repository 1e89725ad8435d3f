"""What has no counterpart on the other side is refused, and by the right exception."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.tensors import refusal

Case = tuple[Callable[[], Any], tuple[str, ...]]


def floats() -> torch.Tensor:
    """Eight numbers on the host, 0 to 7."""
    return torch.arange(8, dtype=torch.float32, device=torch.device("cpu"))


def _struct_field() -> Any:
    return np.zeros(4, dtype=[("tag", "i1"), ("value", "<f4")])["value"]  # 5 bytes apart


#: Arrays that torch.from_numpy must refuse, and with what. Texts differ between versions.
_ARRAYS: Final[dict[str, Case]] = {
    "negative stride": (lambda: np.arange(8.0)[::-1], ("ValueError",)),
    "foreign byte order": (
        lambda: np.arange(4.0).astype(np.dtype(np.float64).newbyteorder()),
        ("ValueError",),
    ),
    "stride of part of an element": (_struct_field, ("ValueError",)),
    "object": (lambda: np.array([None, 1], dtype=object), ("TypeError",)),
    "str": (lambda: np.array(["a"]), ("TypeError",)),
    "longdouble": (lambda: np.zeros(2, dtype=np.longdouble), ("TypeError",)),
    "datetime64": (lambda: np.zeros(2, dtype="datetime64[s]"), ("TypeError",)),
    "struct": (lambda: np.zeros(2, dtype="i4,i1"), ("TypeError",)),
    "list": (lambda: [1.0, 2.0], ("TypeError",)),
}

_TENSORS: Final[dict[str, Case]] = {
    "bfloat16": (lambda: floats().bfloat16(), ("TypeError",)),
    "requires_grad": (lambda: floats().requires_grad_(), ("RuntimeError",)),
    "conjugate view": (lambda: floats().to(torch.complex64).conj(), ("RuntimeError",)),
    "negative view": (lambda: torch._neg_view(floats()), ("RuntimeError",)),
    "sparse": (lambda: floats().to_sparse(), ("TypeError",)),
    "without memory (meta)": (lambda: torch.empty(2, device="meta"), ("TypeError",)),
}

#: torch raised RuntimeError before it had BufferError from its C++ side.
_BUFFER: Final = ("BufferError", "RuntimeError")
_BY_DLPACK: Final = ("requires_grad", "conjugate view", "bfloat16")


def refused(
    name: str, make: Callable[[], Any], call: Callable[[Any], object], right: tuple[str, ...]
) -> Comparison:
    """Whether `call` refuses what `make` makes with one of the `right` exceptions."""
    made: list[Any] = []
    broken = refusal(lambda: made.append(make()))
    raised = f"making the operand raised {broken}" if broken else refusal(lambda: call(made[0]))
    problem = "" if raised.partition(":")[0] in right else f"{raised or 'it went through'}"
    return Comparison(
        operation=name, elements=1, problem=problem and f"{problem} where {right[0]} is right"
    )


def arrays() -> tuple[Comparison, ...]:
    """Arrays that no tensor can describe."""
    return tuple(
        refused(name, make, torch.from_numpy, right) for name, (make, right) in _ARRAYS.items()
    )


def tensors() -> tuple[Comparison, ...]:
    """Tensors that no array can describe."""
    # Without gradients a tensor that requires one is rightly not refused.
    with torch.inference_mode(False), torch.enable_grad():
        return _tensors()


def _tensors() -> tuple[Comparison, ...]:
    numpy = [
        refused(f"{name}: {label}", make, call, right)
        for name, (make, right) in _TENSORS.items()
        for label, call in (
            ("t.numpy()", lambda t: t.numpy()),
            ("np.asarray(t)", np.asarray),
        )
    ]
    exports = [
        refused(f"{name}: np.from_dlpack(t)", _TENSORS[name][0], np.from_dlpack, _BUFFER)
        for name in _BY_DLPACK
    ]
    return (*numpy, *exports)

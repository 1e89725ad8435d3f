"""What the other library cannot describe is refused.

Both libraries promise to share memory, so they must refuse what cannot be shared. The type of the
exception is not promised.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.tensors import refusal


def floats() -> torch.Tensor:
    """The float32 numbers 0 to 7, a tensor on the host."""
    return torch.arange(8, dtype=torch.float32, device=torch.device("cpu"))


_HAS_LONGER: Final = np.dtype(np.longdouble).itemsize > np.dtype(np.float64).itemsize


def _struct_field() -> Any:
    return np.zeros(4, dtype=[("tag", "i1"), ("value", "<f4")])["value"]  # 5 bytes apart


#: Arrays that torch.from_numpy must refuse.
_ARRAYS: Final[dict[str, Callable[[], Any]]] = {
    "negative stride": lambda: np.arange(8.0)[::-1],
    "foreign byte order": lambda: np.arange(4.0).astype(np.dtype(np.float64).newbyteorder()),
    "stride of part of an element": _struct_field,
    "object": lambda: np.array([None, 1], dtype=object),
    "str": lambda: np.array(["a"]),
    "datetime64": lambda: np.zeros(2, dtype="datetime64[s]"),
    "struct": lambda: np.zeros(2, dtype="i4,i1"),
    # On some platforms longdouble is float64.
    **({"longdouble": lambda: np.zeros(2, dtype=np.longdouble)} if _HAS_LONGER else {}),
}

_TENSORS: Final[dict[str, Callable[[], Any]]] = {
    "bfloat16": lambda: floats().bfloat16(),
    "requires_grad": lambda: floats().requires_grad_(),
    "conjugate view": lambda: floats().to(torch.complex64).conj(),
    "negative view": lambda: torch._neg_view(floats()),
    "sparse": lambda: floats().to_sparse(),
    "without memory (meta)": lambda: torch.empty(2, device="meta"),
}

_BY_DLPACK: Final = ("requires_grad", "conjugate view", "bfloat16")


def refused(name: str, make: Callable[[], Any], call: Callable[[Any], object]) -> Comparison:
    """The comparison that holds when `call` raises on what `make` returns."""
    operands: list[Any] = []
    failure = refusal(lambda: operands.append(make()))
    problem = f"making the operand raised {failure}" if failure else ""
    if not failure and not refusal(lambda: call(operands[0])):
        problem = "it went through where a refusal is right"
    return Comparison(operation=name, elements=1, problem=problem)


def arrays() -> tuple[Comparison, ...]:
    """Verify that arrays which no tensor can describe are refused."""
    return tuple(refused(name, make, torch.from_numpy) for name, make in _ARRAYS.items())


def tensors() -> tuple[Comparison, ...]:
    """Verify that tensors which no array can describe are refused."""
    # With gradients off, a tensor that requires one is rightly not refused.
    with torch.inference_mode(False), torch.enable_grad():
        return _tensors()


def _tensors() -> tuple[Comparison, ...]:
    numpy = [
        refused(f"{name}: {label}", make, call)
        for name, make in _TENSORS.items()
        for label, call in (
            ("t.numpy()", lambda t: t.numpy()),
            ("np.asarray(t)", np.asarray),
        )
    ]
    exports = [
        refused(f"{name}: np.from_dlpack(t)", _TENSORS[name], np.from_dlpack) for name in _BY_DLPACK
    ]
    return (*numpy, *exports)

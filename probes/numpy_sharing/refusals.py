"""What has no counterpart on the other side is refused.

Both libraries promise to share memory, so what cannot be shared they must refuse. By which
exception they do not promise.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.tensors import refusal


def floats() -> torch.Tensor:
    """Eight numbers on the host, 0 to 7."""
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
    # On some platforms it is float64 by another name.
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
    """Whether `call` refuses what `make` makes."""
    made: list[Any] = []
    broken = refusal(lambda: made.append(make()))
    problem = f"making the operand raised {broken}" if broken else ""
    if not broken and not refusal(lambda: call(made[0])):
        problem = "it went through where a refusal is right"
    return Comparison(operation=name, elements=1, problem=problem)


def arrays() -> tuple[Comparison, ...]:
    """Arrays that no tensor can describe."""
    return tuple(refused(name, make, torch.from_numpy) for name, make in _ARRAYS.items())


def tensors() -> tuple[Comparison, ...]:
    """Tensors that no array can describe."""
    # Without gradients a tensor that requires one is rightly not refused.
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

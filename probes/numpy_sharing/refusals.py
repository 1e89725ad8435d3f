"""What must be refused is refused, and a read-only array is not taken in silence."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.numpy_sharing.evidence import address, fact, together, values
from probes.references import compare
from probes.tensors import refusal

Case = tuple[Callable[[], Any], tuple[str, ...]]

_NUMPY_2: Final = int(np.__version__.split(".")[0]) >= 2


def _floats() -> torch.Tensor:
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
    "bfloat16": (lambda: _floats().bfloat16(), ("TypeError",)),
    "requires_grad": (lambda: _floats().requires_grad_(), ("RuntimeError",)),
    "conjugate view": (lambda: _floats().to(torch.complex64).conj(), ("RuntimeError",)),
    "negative view": (lambda: torch._neg_view(_floats()), ("RuntimeError",)),
    "sparse": (lambda: _floats().to_sparse(), ("TypeError",)),
    "without memory (meta)": (lambda: torch.empty(2, device="meta"), ("TypeError",)),
}

#: torch raised RuntimeError before it had BufferError from its C++ side.
_BUFFER: Final = ("BufferError", "RuntimeError")
_BY_DLPACK: Final = ("requires_grad", "conjugate view", "bfloat16")


def _refused(
    name: str, make: Callable[[], Any], call: Callable[[Any], object], right: tuple[str, ...]
) -> Comparison:
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
        _refused(name, make, torch.from_numpy, right) for name, (make, right) in _ARRAYS.items()
    )


def tensors() -> tuple[Comparison, ...]:
    """Tensors that no array can describe."""
    numpy = [
        _refused(f"{name}: {label}", make, call, right)
        for name, (make, right) in _TENSORS.items()
        for label, call in (
            ("t.numpy()", lambda t: t.numpy()),
            ("np.asarray(t)", lambda t: np.asarray(t)),
        )
    ]
    exports = [
        _refused(f"{name}: np.from_dlpack(t)", _TENSORS[name][0], np.from_dlpack, _BUFFER)
        for name in _BY_DLPACK
    ]
    return (*numpy, *exports)


def _read_only() -> Any:
    array = np.arange(8, dtype=np.float32)
    array.flags.writeable = False
    return array


def _warned(call: Callable[[Any], torch.Tensor]) -> Iterator[Comparison]:
    """One warning a call, each time; none for an array that can be written."""
    for array, expected in ((_read_only(), 1), (_read_only(), 1), (np.zeros(8, np.float32), 0)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tensor = call(array)
        told = [w for w in caught if w.category is UserWarning and "not writ" in str(w.message)]
        what = f"warnings for a {'read-only' if expected else 'writable'} array"
        yield fact(what, len(told), expected)
        yield compare("values", values(tensor), array)


def read_only_warning() -> tuple[Comparison, ...]:
    """torch warns once a process and call; asked to, it warns every time."""
    calls: dict[str, Callable[[Any], torch.Tensor]] = {
        "torch.from_numpy(a)": lambda a: torch.from_numpy(a),
        "torch.as_tensor(a)": lambda a: torch.as_tensor(a),
        "torch.frombuffer(a)": lambda a: torch.frombuffer(a, dtype=torch.float32),
    }
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        return tuple(together(name, _warned(call)) for name, call in calls.items())
    finally:
        torch.set_warn_always(before)


def read_only_by_dlpack() -> tuple[Comparison, str]:
    """A read-only array by DLPack: refused, copied, or shared in silence; wrong in no version."""
    array = _read_only()
    taken: list[torch.Tensor] = []
    raised = refusal(lambda: taken.append(torch.from_dlpack(array)))
    name = "torch.from_dlpack(read-only a)"
    if raised:
        right = raised.partition(":")[0] in {"BufferError", "RuntimeError", "ValueError"}
        problem = "" if right else f"{raised} where BufferError is right"
        return Comparison(operation=name, elements=1, problem=problem), f"refused: {raised}"
    compared = together(name, [compare("values", values(taken[0]), np.arange(8, dtype=np.float32))])
    shares = address(taken[0]) == address(array)
    return compared, (
        "hazard: torch.from_dlpack takes a read-only array without a warning, and can write to it"
        if shares
        else "torch.from_dlpack copies a read-only array"
    )


def _resized(tensor: torch.Tensor, array: Any) -> Iterator[Comparison]:
    place = address(array)
    for name, call in (
        ("t.resize_", lambda: tensor.resize_(4096)),
        ("storage.resize_", lambda: tensor.untyped_storage().resize_(4096 * 4)),
    ):
        yield _refused(name, lambda: None, lambda _none, c=call: c(), ("RuntimeError",))
    yield fact("address of the array, bytes off", address(array) - place, 0)
    yield compare("the array's values", array, np.arange(8, dtype=np.float32))


def resizes() -> tuple[Comparison, ...]:
    """Memory that an array points at is not moved away; a tensor of its own may grow."""
    mine, theirs = _floats(), np.arange(8, dtype=np.float32)
    alone = fact("elements of an unshared tensor", _floats().resize_(64).numel(), 64)
    return (
        together("after t.numpy()", _resized(mine, mine.numpy())),
        together("after np.asarray(t)", _resized(mine, np.asarray(mine))),
        together("after torch.from_numpy(a)", _resized(torch.from_numpy(theirs), theirs)),
        together("without an array", [alone]),
    )


def copy_false() -> tuple[Comparison, str]:
    """`np.array(t, copy=False)` shares, or (NumPy 2, which asks more) raises; it never copies."""
    name = "np.array(t, copy=False)"
    tensor = _floats()
    made: list[Any] = []
    raised = refusal(lambda: made.append(np.array(tensor, copy=False)))
    if raised:
        right = _NUMPY_2 and raised.startswith("ValueError")
        problem = "" if right else f"raised {raised}"
        return Comparison(operation=name, elements=1, problem=problem), (
            "np.array(t, copy=False) is refused by NumPy 2: np.asarray(t) shares"
        )
    shared = fact("address, bytes off", address(made[0]) - address(tensor), 0)
    expected = np.arange(8, dtype=np.float32)
    return together(name, [shared, compare("values", made[0], expected)]), f"{name} shares"

"""Shared memory is protected from writes to read-only arrays, and from a resize that moves it."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.references import compare
from probes.kit.tensors import refusal
from probes.numpy_sharing.evidence import address, combined, fact, from_dlpack, values
from probes.numpy_sharing.refusals import floats, refused

_NUMPY_2: Final = int(np.__version__.split(".")[0]) >= 2


def _read_only() -> Any:
    array = np.arange(8, dtype=np.float32)
    array.flags.writeable = False
    return array


def _read_only_warnings(call: Callable[[Any], torch.Tensor]) -> Iterator[Comparison]:
    """Compare the warnings: one for each read-only array, none for a writable one."""
    for array, expected in ((_read_only(), 1), (_read_only(), 1), (np.zeros(8, np.float32), 0)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tensor = call(array)
        matching = [w for w in caught if w.category is UserWarning and "not writ" in str(w.message)]
        what = f"warnings for a {'read-only' if expected else 'writable'} array"
        yield fact(what, min(len(matching), 1), expected)
        yield compare("values", values(tensor), array)


def read_only_warning() -> tuple[Comparison, ...]:
    """Compare the warnings of each call, with torch set to warn every time and not only once."""
    calls: dict[str, Callable[[Any], torch.Tensor]] = {
        "torch.from_numpy(a)": torch.from_numpy,
        "torch.as_tensor(a)": torch.as_tensor,
        "torch.frombuffer(a)": lambda a: torch.frombuffer(a, dtype=torch.float32),
    }
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        return tuple(combined(name, _read_only_warnings(call)) for name, call in calls.items())
    finally:
        torch.set_warn_always(before)


def read_only_by_dlpack() -> tuple[Comparison, str]:
    """Compare a read-only array by DLPack, and say whether it is refused, copied or shared."""
    array = _read_only()
    tensors: list[torch.Tensor] = []
    raised = refusal(lambda: tensors.append(from_dlpack(array)))
    name = "torch.from_dlpack(read-only a)"
    if raised:
        return Comparison(operation=name, elements=1), f"refused: {raised}"
    right_values = np.arange(8, dtype=np.float32)
    parts = (compare("values", values(tensor), right_values) for tensor in tensors)
    shares = address(tensors[0]) == address(array)
    return combined(name, parts), (
        "hazard: torch.from_dlpack takes a read-only array without a warning, and can write to it"
        if shares
        else "torch.from_dlpack copies a read-only array"
    )


def _resize_refused(array: Any, tensor: torch.Tensor) -> Iterator[Comparison]:
    # The storage first: a refused t.resize_ can leave the tensor with the refused shape.
    yield refused("storage.resize_", tensor.untyped_storage, lambda s: s.resize_(16384))
    yield refused("t.resize_", lambda: tensor, lambda t: t.resize_(4096))
    yield fact("address of the tensor, bytes off", address(tensor) - address(array), 0)
    yield compare("the array's values", array, np.arange(8, dtype=np.float32))


def _resize_exported(export: Callable[[torch.Tensor], Any]) -> Iterator[Comparison]:
    tensor = floats()
    yield from _resize_refused(export(tensor), tensor)


def _resize_imported() -> Iterator[Comparison]:
    array = np.arange(8, dtype=np.float32)
    yield from _resize_refused(array, torch.from_numpy(array))


def _resize_unshared() -> Iterator[Comparison]:
    yield fact("elements", floats().resize_(64).numel(), 64)


def resizes() -> tuple[Comparison, ...]:
    """Verify that memory of an array is not moved by a resize, while an unshared tensor grows."""
    return (
        combined("after t.numpy()", _resize_exported(lambda t: t.numpy())),
        combined("after np.asarray(t)", _resize_exported(np.asarray)),
        combined("after torch.from_numpy(a)", _resize_imported()),
        combined("of a tensor without an array", _resize_unshared()),
    )


def copy_false() -> tuple[Comparison, str]:
    """Compare `np.array(t, copy=False)`: it shares or, in NumPy 2, raises; it never copies."""
    name = "np.array(t, copy=False)"
    tensor = floats()
    made: list[Any] = []
    raised = refusal(lambda: made.append(np.array(tensor, copy=False)))
    if raised:
        expected_error = _NUMPY_2 and raised.startswith("ValueError")
        problem = "" if expected_error else f"raised {raised}"
        return Comparison(operation=name, elements=1, problem=problem), (
            "np.array(t, copy=False) is refused by NumPy 2: np.asarray(t) shares"
        )
    shared = fact("address, bytes off", address(made[0]) - address(tensor), 0)
    expected = np.arange(8, dtype=np.float32)
    return combined(name, [shared, compare("values", made[0], expected)]), f"{name} shares"

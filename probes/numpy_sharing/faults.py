"""Faults of memory that torch and NumPy share."""

from typing import Final

from probes.faults.fault import Event, Fault, Injection

_COPIES: Final = Event(
    "arrays and tensors that no longer share, or share what must be a copy",
    "https://docs.pytorch.org/docs/stable/generated/torch.from_numpy.html",
)
_ABI: Final = Event(
    "a torch built for NumPy 1 under NumPy 2: Numpy is not available",
    "https://github.com/pytorch/pytorch/issues/107302",
)
_LIFETIME: Final = Event(
    "memory that is freed while the other side uses it, or never",
    "https://numpy.org/doc/stable/reference/arrays.interface.html",
)
_MEANING: Final = Event(
    "a type, stride or byte order that means something else on the other side",
    "https://dmlc.github.io/dlpack/latest/",
)
_WRITES: Final = Event(
    "in-place operations that change nothing on views",
    "https://github.com/pytorch/pytorch/issues/118115",
)


def _host_fault(fault: str, function: str, checks: str, event: Event, **arguments: str) -> Fault:
    return Fault(
        name=fault,
        kind="semantics",
        where="host",
        event=event,
        inject=(Injection(f"sharing.{function}", arguments),),
        trips=tuple(
            check if "." in check else f"numpy_sharing.{check}" for check in checks.split()
        ),
    )


def _sharing_fault(name: str, checks: str, event: Event = _COPIES) -> Fault:
    return _host_fault(f"sharing.{name}", "shares_wrongly", checks, event, name=name)


FAULTS: Final[tuple[Fault, ...]] = (
    _sharing_fault("from_numpy_copies", "from_numpy"),
    _sharing_fault("from_numpy_one_bit", "from_numpy", _MEANING),
    _sharing_fault("from_numpy_zeros", "from_numpy"),
    _sharing_fault("from_numpy_one_short", "from_numpy"),
    _sharing_fault("from_numpy_signed_bytes", "dtypes_to_torch", _MEANING),
    _sharing_fault("from_numpy_swaps_complex_parts", "dtypes_to_torch", _MEANING),
    _sharing_fault("from_numpy_packs_views", "layouts_to_torch"),
    _sharing_fault("from_numpy_0d_as_1d", "layouts_to_torch", _MEANING),
    _sharing_fault("from_numpy_takes_negative_strides", "refuses_arrays", _MEANING),
    _sharing_fault("from_numpy_takes_foreign_bytes", "refuses_arrays", _MEANING),
    _sharing_fault("from_numpy_leaks", "lifetime", _LIFETIME),
    _sharing_fault("from_numpy_dangles", "lifetime", _LIFETIME),
    _sharing_fault("from_numpy_read_only_in_silence", "readonly_warning"),
    _sharing_fault("from_numpy_cuts_to_32_bits", "dtypes_to_torch", _MEANING),
    _sharing_fault(
        "from_numpy_unavailable",
        "from_numpy lifetime resize_refused layouts_to_torch torch_version.numpy_to_torch",
        _ABI,
    ),
    _sharing_fault("from_numpy_warns", "torch_version.numpy_to_torch", _ABI),
    _sharing_fault("from_numpy_bits_of_doubles", "torch_version.numpy_to_torch", _ABI),
    _sharing_fault("as_tensor_copies", "as_tensor"),
    _sharing_fault("asarray_copies", "as_tensor"),
    _sharing_fault("as_tensor_ignores_dtype", "copies"),
    _sharing_fault("tensor_shares", "copies"),
    _sharing_fault("tensor_takes_no_scalar", "scalars torch_version.numpy_scalars", _ABI),
    _sharing_fault("tensor_widens_a_scalar", "scalars", _MEANING),
    _sharing_fault("tensor_drops_the_tail", "copies"),
    _sharing_fault("clone_shares", "copies"),
    _sharing_fault("frombuffer_copies", "frombuffer"),
    _sharing_fault("from_dlpack_copies", "dlpack_import"),
    _sharing_fault("from_dlpack_drops_read_only", "readonly_dlpack"),
    _sharing_fault("numpy_copies", "to_numpy"),
    _sharing_fault("numpy_packs_views", "layouts_to_numpy"),
    _sharing_fault("numpy_loses_the_sign_of_zero", "dtypes_to_numpy", _MEANING),
    _sharing_fault("numpy_in_foreign_bytes", "dtypes_to_numpy", _MEANING),
    _sharing_fault("numpy_takes_anything", "refuses_tensors", _MEANING),
    _sharing_fault(
        "numpy_unavailable",
        "to_numpy layouts_to_numpy dtypes_to_numpy copies torch_version.torch_to_numpy",
        _ABI,
    ),
    _sharing_fault("numpy_swaps_bytes", "torch_version.torch_to_numpy", _ABI),
    _sharing_fault("numpy_dangles", "lifetime", _LIFETIME),
    _sharing_fault("array_copies", "asarray copy_false"),
    _sharing_fault("dlpack_copies", "dlpack_export"),
    _sharing_fault("resize_moves_away", "resize_refused", _LIFETIME),
    _host_fault(
        "writes.fill_lost", "writes_are_lost", "from_numpy copies", _WRITES, operator="fill_"
    ),
    _host_fault(
        "writes.add_lost",
        "writes_are_lost",
        "from_numpy as_tensor layouts_to_torch",
        _WRITES,
        operator="add_",
    ),
    _host_fault("writes.add_beside", "writes_beside", "layouts_to_torch", _WRITES),
)

"""The probe's cost, its schedule and the promise of each check, without importing torch."""

from typing import Final

from probes.contract import BITS, ProbeSpec

SPEC: Final = ProbeSpec(
    name="numpy_sharing",
    profile="quick",
    needs="host",
    timeout_s=30,
    interval_s=300,
    memory_bytes=0,
    checks={
        "from_numpy": "torch.from_numpy shares: a write on either side shows on the other",
        "as_tensor": "torch.as_tensor and torch.asarray share an array of the same dtype",
        "frombuffer": "torch.frombuffer shares an array's buffer",
        "dlpack_import": "torch.from_dlpack shares an array, whole or as a capsule",
        "to_numpy": "Tensor.numpy shares, also detached and with force=True",
        "asarray": "np.asarray shares a tensor",
        "dlpack_export": "np.from_dlpack shares a tensor",
        "copies": "what must copy copies: no byte in common, no write seen on the other side",
        "dtypes_to_torch": "every dtype of an array means the same in torch, extremes included",
        "dtypes_to_numpy": "every dtype of a tensor means the same in NumPy, extremes included",
        "scalars": "torch takes NumPy's scalars and index arrays as numbers and indices",
        "layouts_to_torch": "an array's shape, strides and offset are the tensor's (0-d, empty)",
        "layouts_to_numpy": "a tensor's shape, strides and offset are the array's (0-d, empty)",
        "lifetime": "shared memory lives as long as either side uses it, and no longer",
        "refuses_arrays": "arrays that no tensor can describe are refused",
        "refuses_tensors": "tensors that no array can describe are refused",
        "readonly_warning": "torch warns when it shares a read-only array",
        "readonly_dlpack": "a read-only array by DLPack is refused or right; says which",
        "resize_refused": "memory that is shared cannot be resized away",
        "copy_false": "np.array(t, copy=False) shares or raises, and never copies",
    },
    certain=dict.fromkeys(
        (
            *("from_numpy", "as_tensor", "frombuffer", "dlpack_import", "to_numpy", "asarray"),
            *("dlpack_export", "copies", "dtypes_to_torch", "dtypes_to_numpy"),
            *("layouts_to_torch", "layouts_to_numpy"),
        ),
        BITS,
    ),
)

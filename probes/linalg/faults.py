"""The faults for the checks of this probe."""

from functools import partial
from typing import Final

from probes.faults.fault import Event, Fault
from probes.faults.wrong_operation import LESS, MORE, STALE, wrong_operation

_FIRST: Final = Event(
    "the first call of a decomposition gives zeros, later ones are right",
    "https://github.com/pytorch/pytorch/issues/82473",
)
_LATER: Final = Event(
    "eigenvectors are wrong from some call on",
    "https://github.com/pytorch/pytorch/issues/192483",
)

_SINGLE: Final = Event(
    "a library that computes in float32 what was asked for in float64",
    "https://github.com/helmholtz-analytics/heat/issues/992",
)

_wrong = partial(wrong_operation, "linalg")

FAULTS: Final[tuple[Fault, ...]] = (
    _wrong("_linalg_solve_ex", "scaled", "solve", by=MORE),
    _wrong("linalg_inv_ex", "zeros", "solve", event=STALE),
    _wrong("_linalg_svd", "scaled", "decompose", by=LESS),
    _wrong("_linalg_svd", "zeros", "solve", first=1, event=_FIRST),
    _wrong("_linalg_eigh", "scaled", "decompose", by=MORE),
    _wrong("_linalg_eigh", "zeros", "decompose", after=5, event=_LATER),
    _wrong("linalg_qr", "nan", "decompose"),
    _wrong("linalg_matrix_exp", "scaled", "functions", by=MORE),
    _wrong("linalg_lstsq", "scaled", "functions", by=LESS),
    _wrong("linalg_solve_triangular", "scaled", "gradients", by=MORE),
    _wrong("linalg_inv_ex", "narrowed", "solve", event=_SINGLE, dtype="float64"),
    _wrong("_linalg_svd", "narrowed", "decompose", event=_SINGLE, dtype="float64"),
    _wrong("linalg_matrix_exp", "narrowed", "functions", event=_SINGLE, dtype="float64"),
    _wrong("linalg_lu_solve", "narrowed", "gradients", event=_SINGLE, dtype="float64"),
)

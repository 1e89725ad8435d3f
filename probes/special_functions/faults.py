"""The faults for the checks of this probe."""

from functools import partial
from typing import Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import LESS, MORE, wrong_operation

_CACHED: Final = Event(
    "a kernel in the cache on disk that was compiled for another version or architecture",
    "https://docs.pytorch.org/docs/stable/cuda_environment_variables.html",
)

_wrong = partial(wrong_operation, "special_functions")

FAULTS: Final[tuple[Fault, ...]] = (
    _wrong("gcd", "one_bit", "divisors", event=_CACHED),
    _wrong("lcm", "zeros", "divisors", event=_CACHED),
    _wrong("exp2", "scaled", "functions", by=LESS, event=_CACHED),
    _wrong("erfc", "scaled", "functions", by=MORE),
    _wrong("lgamma", "scaled", "functions", by=MORE, event=_CACHED),
    _wrong("erfc", "nan", "limits"),
    _wrong("_fft_c2c", "scaled", "complex_numbers", by=MORE),
    _wrong("angle", "scaled", "complex_numbers", by=LESS),
    Fault(
        name="call.conj_forgotten",
        kind="semantics",
        where="any",
        event=Event(
            "an operation that a back-end or patch gives the meaning of another library",
            "https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html",
        ),
        inject=(Injection("calls.means_something_else", {"name": "conj_forgotten"}),),
        trips=("special_functions.complex_numbers",),
    ),
)

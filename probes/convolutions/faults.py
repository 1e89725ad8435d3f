"""The faults for the checks of this probe."""

from functools import partial
from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import LESS, STALE, check_ids, wrong_kernel, wrong_operation

_HALF: Final = Event(
    "a convolution in a half type that loses whole units of its sums",
    "https://github.com/ROCm/rocm-libraries/issues/7024",
)
_ALGORITHM: Final = Event(
    "an algorithm for certain shapes that is wrong, picked by a new version of the library",
    "https://github.com/ROCm/rocm-libraries/issues/12334",
)
_MEANING: Final = Event(
    "a plug-in or patch whose convolution pads, strides or dilates as another library does",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html",
)
_TF32: Final = Event(
    "float32 that was shortened although TF32 was switched off",
    "https://docs.pytorch.org/docs/stable/notes/cuda.html"
    "#tensorfloat-32-tf32-on-ampere-and-later-devices",
)

_wrong = partial(wrong_operation, "convolutions")
_kernel = partial(wrong_kernel, "convolutions")


def _meaning(name: str, checks: str) -> Fault:
    return Fault(
        name=f"convolution.{name}",
        kind="semantics",
        where="any",
        event=_MEANING,
        inject=(Injection("convolutions.means_something_else", {"name": name}),),
        trips=check_ids("convolutions", checks),
    )


def _short(operators: tuple[str, ...], **arguments: Any) -> Fault:
    return Fault(
        name="convolution.shortened",
        kind="operation",
        where="any",
        event=_TF32,
        inject=(Injection("operations.shortened", {"operators": operators, **arguments}),),
        trips=check_ids("convolutions", "precision"),
    )


FAULTS: Final[tuple[Fault, ...]] = (
    _wrong("convolution", "scaled", "forward", by=LESS, dtype="float64"),
    _wrong("convolution", "shifted", "padding", event=_ALGORITHM, dtype="bfloat16"),
    _wrong("convolution_backward", "scaled", "gradients", event=_HALF, by=1.05, dtype="float16"),
    _wrong("convolution_backward", "stale", "frozen", event=STALE),
    _kernel("convolution", "zeros", "channels_last"),
    _kernel("convolution_backward", "nan", "gradients", event=_ALGORITHM),
    _short(("convolution",), bits=10),
    _meaning("groups_mixed_up", "grouped"),
    _meaning("output_padding_ignored", "transposed"),
    _meaning("channels_beyond_1024_lost", "large"),
    _meaning("channels_last_misread", "channels_last"),
    _meaning("circular_as_reflect", "padding"),
    _meaning("benchmark_picks_wrong", "algorithms"),
    _meaning("bias_lost_in_half", "forward"),
)

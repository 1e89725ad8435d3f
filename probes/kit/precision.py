"""What allows float32 products in less precision: torch's old and new switches, and variables.

A setting that cannot be read counts as allowed: a shortened product is then no proof of a fault.

Ref: https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
     https://docs.pytorch.org/docs/stable/generated/torch.set_float32_matmul_precision.html
     https://docs.nvidia.com/cuda/cublas/#tensor-core-usage
     https://uxlfoundation.github.io/oneDNN/dev_guide_attributes_fpmath_mode.html
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from pydantic import Field

from probes.contract import Frozen
from probes.kit.capabilities import back_end
from probes.legible import variables as set_variables

#: Environment variable -> the back-ends whose library reads it and may then shorten float32
#: products whatever torch's switches say. torch's own variable acts through the switches.
VARIABLES: Final[dict[str, tuple[str, ...]]] = {
    "NVIDIA_TF32_OVERRIDE": ("cuda",),
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": (),
    "HIPBLASLT_ALLOW_TF32": ("hip",),
    "DNNL_DEFAULT_FPMATH_MODE": ("cpu", "xpu"),
    "ONEDNN_DEFAULT_FPMATH_MODE": ("cpu", "xpu"),
}
#: Values that keep full precision: 0 forbids TF32, and oneDNN's default mode is strict.
_FULL_PRECISION: Final = {"0", "STRICT"}
_SHORT: Final = {
    "tf32",
    "bf16",
    "fp16",
}  # of the new switches; `ieee` and `none` keep full precision
_LEGACY: Final = {"highest", "high", "medium"}  # of the old switch
#: Variables of cuBLAS, and the bits of a mantissa: https://docs.nvidia.com/cuda/cublas/
_FIXED_POINT: Final = "CUBLAS_EMULATE_DOUBLE_PRECISION"
_FIXED_POINT_BITS: Final = "CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT"
_FLOAT64: Final = 53
#: The answer about a setting that this torch does not have.
UNKNOWN: Final = "cannot be told"


class Precision(Frozen):
    """The settings for float32 products on one device."""

    matmul: str = ""  # torch.get_float32_matmul_precision(), or what it raised
    matmul_may_shorten: bool = False
    convolution_may_shorten: bool = False
    #: Whether products of float16 may be summed in float16 throughout (never torch's default).
    half_sums_may_shorten: bool = False
    #: Environment variables as they are set; not all of them have an effect on this device.
    variables: dict[str, str] = Field(default_factory=dict)
    #: Those that shorten products on this device whatever torch says, `full_precision` included.
    forced_by: str = ""


def read(device: str) -> Precision:
    """The settings of torch and the environment for float32 products on that device."""
    kind = back_end(device)
    variables = {name: value for name, value in set_variables(VARIABLES).items() if value}
    forcing = {
        name: value
        for name, value in variables.items()
        if kind in VARIABLES[name] and value.upper() not in _FULL_PRECISION
    }
    legacy = answer(lambda: str(torch.get_float32_matmul_precision()))
    return Precision(
        matmul=legacy,
        matmul_may_shorten=bool(forcing) or _matmul_may_shorten(kind, legacy),
        convolution_may_shorten=bool(forcing) or _convolution_may_shorten(kind, legacy),
        half_sums_may_shorten=_half_sums_may_shorten(kind),
        variables=variables,
        forced_by=", ".join(f"{name}={value}" for name, value in forcing.items()),
    )


def float64_shortened_by(device: str) -> str:
    """The user's variables by which cuBLAS keeps fewer bits of float64 operands; "" for none.

    It then adds in fixed point; without a number of bits it keeps all 53 of them and more.
    """
    found = set_variables((_FIXED_POINT, _FIXED_POINT_BITS))
    bits = found.get(_FIXED_POINT_BITS, "")
    asked = found.get(_FIXED_POINT) == "1" and bits.isdecimal() and int(bits) < _FLOAT64
    if not asked or back_end(device) != "cuda":
        return ""
    return f"{_FIXED_POINT}=1, {_FIXED_POINT_BITS}={bits}"


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute matrix products (not convolutions) in full float32; restore the settings afterwards.

    Environment variables act below torch and stay in force: see `Precision.forced_by`.
    """
    with _set(_matmul_switches()):
        yield


@contextmanager
def tf32_allowed() -> Iterator[None]:
    """Allow TF32 in matrix products (not convolutions); restore the settings afterwards."""
    with _set(_matmul_switches(), "high", "tf32"):
        yield


@contextmanager
def full_precision_convolutions() -> Iterator[None]:
    """The same for convolutions, for which TF32 is torch's default on CUDA; and for products."""
    switches = _conv_switches()
    with _set([*_matmul_switches(), *switches]):
        cudnn = torch.backends.cudnn
        before = cudnn.allow_tf32 if not switches else False  # before torch 2.9: the old switch
        try:
            if before:
                cudnn.allow_tf32 = False
            yield
        finally:
            if before:
                cudnn.allow_tf32 = True


@contextmanager
def _set(switches: list[Any], old: str = "highest", new: str = "ieee") -> Iterator[None]:
    """Set the old switch of products and these new ones, by default to full precision."""
    saved: list[tuple[Any, str]] = []
    legacy = ""
    try:
        # Parents first: a child shows its own value only while its parents are `none`.
        for switch in _all_switches(switches):
            saved.append((switch, str(switch.fp32_precision)))
            switch.fp32_precision = "none"
        # The old switch can be read now: it raises on a mix of old and new settings.
        legacy = answer(lambda: str(torch.get_float32_matmul_precision()))
        if legacy in _LEGACY:
            torch.set_float32_matmul_precision(old)
        for switch in switches:
            switch.fp32_precision = new
        yield
    finally:
        if legacy in _LEGACY:
            torch.set_float32_matmul_precision(legacy)
        for switch, value in reversed(saved):  # a child may be another name of its parent
            switch.fp32_precision = value


def answer(question: Callable[[], str]) -> str:
    """The answer; the error text if old and new switches are mixed; `UNKNOWN` if it is missing."""
    try:
        return question()
    except RuntimeError as error:
        return (str(error).splitlines() or [""])[0]
    except AttributeError:
        return UNKNOWN


def _matmul_may_shorten(kind: str, legacy: str) -> bool:
    """Whether a switch allows shortened matrix products."""
    place = "cuda" if kind in {"cuda", "hip"} else "mkldnn"
    return _may_shorten(legacy, _new_setting(place, "matmul"))


def _convolution_may_shorten(kind: str, legacy: str) -> bool:
    """Whether a switch allows shortened convolutions: TF32 is torch's default on CUDA."""
    if kind == "cpu":
        return _may_shorten(legacy, _new_setting("mkldnn", "conv"))
    if kind not in {"cuda", "hip"}:
        return True
    new = _new_setting("cudnn", "conv")
    if new != UNKNOWN:
        return new in _SHORT
    return answer(lambda: str(torch.backends.cudnn.allow_tf32)) != "False"


def _half_sums_may_shorten(kind: str) -> bool:
    """Whether a switch (torch 2.5 on the CPU, 2.7 on CUDA) lets float16 products sum in float16."""
    if kind == "cpu":
        ask = getattr(torch._C, "_get_cpu_allow_fp16_reduced_precision_reduction", None)
        return ask is not None and answer(lambda: str(ask())) != "False"
    return answer(lambda: str(torch.backends.cuda.matmul.allow_fp16_accumulation)) == "True"


def _may_shorten(legacy: str, new: str) -> bool:
    """Whether the old or the new switch allows shortening, or neither can be read."""
    if legacy == UNKNOWN:
        return new == UNKNOWN or new in _SHORT
    return legacy != "highest" or new in _SHORT


def _new_setting(place: str, operation: str) -> str:
    """The value of the new switch (torch 2.9 and later) of that library and operation."""
    library = getattr(torch.backends, place)
    return answer(lambda: str(getattr(library, operation).fp32_precision))


def _matmul_switches() -> list[Any]:
    """The new switches of matrix products that this torch has."""
    return _new_switches(("cuda", "mkldnn"), "matmul")


def _conv_switches() -> list[Any]:
    """The new switches of convolutions that this torch has.

    With those of recurrent layers: the old switch speaks of both, and raises where they differ.
    """
    places = ("cudnn", "mkldnn")
    return [*_new_switches(places, "conv"), *_new_switches(places, "rnn")]


def _new_switches(places: tuple[str, ...], operation: str) -> list[Any]:
    found = [getattr(getattr(torch.backends, name), operation, None) for name in places]
    return [switch for switch in found if hasattr(switch, "fp32_precision")]


def _all_switches(switches: list[Any]) -> list[Any]:
    """These new switches and those that they follow, parents before children."""
    parents: list[Any] = [torch.backends, torch.backends.cudnn, torch.backends.mkldnn]
    return [*(each for each in parents if hasattr(each, "fp32_precision")), *switches]

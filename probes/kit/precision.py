"""What may shorten float32 products: torch's switches, old and new, and variables beyond them.

What cannot be told counts as allowed: a short product is then no proof of a fault.

Ref: https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
     https://docs.pytorch.org/docs/stable/generated/torch.set_float32_matmul_precision.html
     https://docs.nvidia.com/cuda/cublas/#tensor-core-usage
     https://uxlfoundation.github.io/oneDNN/dev_guide_attributes_fpmath_mode.html
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from pydantic import Field

from probes.contract import Frozen
from probes.kit.capabilities import back_end

#: Variables that concern float32 products -> the back-ends whose library reads them itself, so
#: that it may shorten whatever torch says. torch's own variable shows in torch's switches.
VARIABLES: Final[dict[str, tuple[str, ...]]] = {
    "NVIDIA_TF32_OVERRIDE": ("cuda",),
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": (),
    "HIPBLASLT_ALLOW_TF32": ("hip",),
    "DNNL_DEFAULT_FPMATH_MODE": ("cpu", "xpu"),
    "ONEDNN_DEFAULT_FPMATH_MODE": ("cpu", "xpu"),
}
#: Values that leave products whole: 0 forbids TF32, and oneDNN's default mode is strict.
_WHOLE: Final = {"0", "STRICT"}
_SHORT: Final = {"tf32", "bf16", "fp16"}  # of the new switches; `ieee` and `none` are whole
_LEGACY: Final = {"highest", "high", "medium"}  # of the old switch
_UNKNOWN: Final = "cannot be told"


class Precision(Frozen):
    """What is set for float32 products on one device."""

    matmul: str = ""  # torch.get_float32_matmul_precision(), or what it raised
    matmul_may_shorten: bool = False
    convolution_may_shorten: bool = False
    #: Of the environment, as they are set; not each of them shortens here.
    variables: dict[str, str] = Field(default_factory=dict)
    #: Those that shorten here whatever torch says, `full_precision` included.
    forced_by: str = ""


def read(device: str) -> Precision:
    """What torch and the environment allow float32 products to become on that device."""
    kind = back_end(device)
    variables = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    forcing = {
        name: value
        for name, value in variables.items()
        if kind in VARIABLES[name] and value.upper() not in _WHOLE
    }
    legacy = _asked(lambda: str(torch.get_float32_matmul_precision()))
    return Precision(
        matmul=legacy,
        matmul_may_shorten=bool(forcing) or _products(kind, legacy),
        convolution_may_shorten=bool(forcing) or _convolutions(kind, legacy),
        variables=variables,
        forced_by=", ".join(f"{name}={value}" for name, value in forcing.items()),
    )


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute products (not convolutions) in whole float32, then restore exactly what was set.

    Variables of the environment act below torch and stay in force: see `Precision.forced_by`.
    """
    own: list[tuple[Any, str]] = []
    legacy = ""
    try:
        # Parents first: what a child says is its own once no parent stands behind it.
        for switch in _switches():
            own.append((switch, str(switch.fp32_precision)))
            switch.fp32_precision = "none"
        # With no mix of old and new left, the old switch can be read.
        legacy = _asked(lambda: str(torch.get_float32_matmul_precision()))
        if legacy in _LEGACY:
            torch.set_float32_matmul_precision("highest")
        for switch in _leaves():
            switch.fp32_precision = "ieee"
        yield
    finally:
        if legacy in _LEGACY:
            torch.set_float32_matmul_precision(legacy)
        for switch, value in reversed(own):  # one may be another name of its parent
            switch.fp32_precision = value


def _asked(question: Callable[[], str]) -> str:
    """The answer, what was raised by a mix of old and new switches, or that the switch is gone."""
    try:
        return question()
    except RuntimeError as error:
        return (str(error).splitlines() or [""])[0]
    except AttributeError:
        return _UNKNOWN


def _products(kind: str, legacy: str) -> bool:
    """Whether a switch lets matrix products be shorter."""
    place = "cuda" if kind in {"cuda", "hip"} else "mkldnn"
    return _allowed(legacy, _told(place, "matmul"))


def _convolutions(kind: str, legacy: str) -> bool:
    """Whether a switch lets convolutions be shorter: TF32 is torch's default on CUDA."""
    if kind == "cpu":
        return _allowed(legacy, _told("mkldnn", "conv"))
    if kind not in {"cuda", "hip"}:
        return True
    new = _told("cudnn", "conv")
    if new != _UNKNOWN:
        return new in _SHORT
    return _asked(lambda: str(torch.backends.cudnn.allow_tf32)) != "False"


def _allowed(legacy: str, new: str) -> bool:
    """Whether either switch allows it, or neither can be told."""
    if legacy == _UNKNOWN:
        return new == _UNKNOWN or new in _SHORT
    return legacy != "highest" or new in _SHORT


def _told(place: str, operation: str) -> str:
    """What the new switch (torch 2.9 and later) of that library and operation says."""
    library = getattr(torch.backends, place)
    return _asked(lambda: str(getattr(library, operation).fp32_precision))


def _leaves() -> list[Any]:
    """The new switches of matrix products that this torch has."""
    found = [getattr(getattr(torch.backends, name), "matmul", None) for name in ("cuda", "mkldnn")]
    return [switch for switch in found if hasattr(switch, "fp32_precision")]


def _switches() -> list[Any]:
    """The new switches that decide over matrix products, parents before children."""
    parents: list[Any] = [torch.backends, torch.backends.cudnn, torch.backends.mkldnn]
    return [each for each in parents if hasattr(each, "fp32_precision")] + _leaves()

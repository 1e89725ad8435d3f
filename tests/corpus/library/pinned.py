"""Public model libraries in the versions that programs of the corpus are pinned to."""

import importlib
import os
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import torch
from torch import Tensor, nn

#: Library -> its version, that of the dependency group `corpus`. In another one a model of the
#: same name may call other operations.
VERSIONS: Final[dict[str, str]] = {
    "torchvision": "0.28.0",
    "transformers": "5.24.0",
    "timm": "1.0.31",
    "diffusers": "0.42.1",
}

#: Declarations that stand in for torchvision's own kernels, kept for as long as the process lives.
_stand_ins: list[torch.library.Library] = []


def installed(library: str) -> bool:
    """Whether the library is here in exactly its pinned version."""
    try:
        return version(library).partition("+")[0] == VERSIONS[library]
    except PackageNotFoundError:
        return False


def load(module: str) -> Any:
    """A module of a pinned library, imported at its first use and without any download."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if installed("torchvision"):  # timm and transformers import it too
            _import_torchvision()
        loaded = importlib.import_module(module)
    if module in {"transformers", "diffusers"}:
        loaded.utils.logging.set_verbosity_error()
    return loaded


def _import_torchvision() -> None:
    """Import torchvision, also where its own kernels were built for another build of torch.

    The programs call none of them, but its import needs their declarations: the index that has
    torch for CPUs is not in reach everywhere, and the usual one has torchvision for CUDA alone.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _stand_ins.append(library)
        importlib.import_module("torchvision")


def in_single(step: Callable[[Any, str], Tensor]) -> Callable[[Any, str], Tensor]:
    """The step without autocast: Fourier transforms of some devices take no bfloat16."""

    def single(model: Any, device: str) -> Tensor:
        with torch.autocast(torch.device(device).type, enabled=False):
            return step(model, device)

    return single


class Program(nn.Module):
    """A model of a library, with one forward pass over a random batch, and what it writes."""

    def __init__(
        self,
        model: nn.Module,
        step: Callable[[Any, str], Tensor],
        write: Callable[[Any, str], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._step = step
        self._write = write

    def loss(self, device: str) -> Tensor:
        """The loss of a batch that is drawn on the device."""
        return self._step(self.model, device)

    def write(self, device: str) -> None:
        """Generate, sample or denoise, where the model can."""
        if self._write is not None:
            self._write(self.model, device)

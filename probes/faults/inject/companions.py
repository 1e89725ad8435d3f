"""Simulates an installed torchvision that fits torch, but for what is changed."""

import torch as torch_package

from probes.companions import probe


def pretends(
    *,
    version: str = "0.26.0",
    torch: str = "",
    needs: str = "",
    error: str = "",
    kept: tuple[int, ...] = (0, 2),
    nms_error: str = "",
) -> None:
    """Make the probe find a torchvision of that version.

    Args:
        version: of torchvision.
        torch: the version of torch that is pretended, if any.
        needs: what torchvision's metadata requires; by default this torch.
        error: what its import raises.
        kept: the boxes that its operator keeps.
        nms_error: what its operator raises.
    """
    if torch:
        torch_package.__version__ = torch  # type: ignore[assignment]
    base = str(torch_package.__version__).partition("+")[0]
    required = [needs or f"torch=={base}"]
    probe.installed = lambda name: version if name == "torchvision" else None
    probe.requirements = lambda name: required if name == "torchvision" else []
    probe.import_error = lambda name: error if name == "torchvision" else ""
    probe.kept_boxes = lambda: (None, nms_error) if nms_error else (tuple(kept), "")

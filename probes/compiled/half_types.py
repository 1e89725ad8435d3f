"""Half types in compiled functions: their type, and integers that they hold exactly."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import torch

from probes.compiled.workspace import compiled
from probes.contract import Comparison
from probes.kit.capabilities import back_end
from probes.kit.gradients import host, tensor
from probes.kit.operands import integers
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact

_SHAPE: Final = (6, 8)


def half_types(device: str) -> Iterator[Trial]:
    """bfloat16 everywhere, float16 where the device computes in it."""
    kinds = [torch.bfloat16] if back_end(device) == "cpu" else [torch.bfloat16, torch.float16]
    for dtype in kinds:
        yield Custom(str(dtype).removeprefix("torch."), partial(_half, dtype), dtype)


def _function(x: torch.Tensor, w: torch.Tensor) -> dict[str, torch.Tensor]:
    """Results of x (6, 8) and w (8, 6), all integers below 2^8."""
    return {
        "elementwise": (x * 2 - 1).relu() + x,
        "sum": (x.abs() + 1).sum(1),
        "product": x @ w,
        "to float32": x.float() * 0.5,
        "from float32": (x.float() + 3).to(x.dtype),
    }


def _half(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    x = integers(_SHAPE, -3, 3, salt=91).astype(np.float64)
    w = integers(_SHAPE[::-1], -3, 3, salt=92).astype(np.float64)
    with torch.no_grad():
        found = compiled(_function)(tensor(x, device, dtype), tensor(w, device, dtype))
    expected = {
        "elementwise": np.maximum(x * 2 - 1, 0) + x,
        "sum": (np.abs(x) + 1).sum(1),
        "product": x @ w,
        "to float32": x * 0.5,
        "from float32": x + 3,
    }
    kind = str(dtype).removeprefix("torch.")
    for name, right in expected.items():
        label = f"{name} ({kind})"
        given = torch.float32 if name == "to float32" else dtype
        yield fact(f"{label}, type", str(found[name].dtype), str(given))
        yield compare(label, host(found[name].float()), (right + 0.0).astype(np.float32))

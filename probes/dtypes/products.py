"""Products of integer matrices in floating and complex types, plain, batched and by groups.

All partial sums are integers that bfloat16 has, so that no shortened operand changes them.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import back_end, capability, has_dtype
from probes.kit.case import Case, case, plain
from probes.kit.layer import Backward, Layer, comparisons
from probes.kit.operands import integers
from probes.kit.rounding import Rounded
from probes.kit.trial import Custom, LeftOut, Trial
from probes.kit.typed.values import COMPLEX, FLOATS, Values, tried

#: Rows of each group, one of them empty; rows and columns are whole units of 16 bytes.
_GROUPS: Final = (3, 0, 5, 8)
_ROWS: Final = np.asarray(integers((sum(_GROUPS), 16), -2, 2, 90), np.float64)
_WEIGHTS: Final = np.asarray(integers((len(_GROUPS), 16, 24), -2, 2, 91), np.float64)

#: As documented: the CPU takes more.
_ON_GPUS: Final = (torch.bfloat16,)
_ON_CPU: Final = (torch.float32, torch.float16, torch.bfloat16)
#: Before this version a launch fails on newer architectures, for which no kernel was built, and
#: the gradient of an empty group is not written.
_BLACKWELL: Final = (10, 0)
_WITH_BLACKWELL: Final = (2, 13)
#: Before this version ROCm leaves gradients of empty and small groups unwritten.
#: https://github.com/pytorch/pytorch/pull/174314
_WITH_ROCM: Final = (2, 12)


def products(device: str) -> Iterator[Trial]:
    """Of matrices, batches and vectors; and of groups of rows, with their gradients."""
    yield from tried(((_plain, FLOATS), (_complex, COMPLEX)), device)
    for dtype in _ON_CPU if back_end(device) == "cpu" else _ON_GPUS:
        if has_dtype(device, dtype) and hasattr(torch.nn.functional, "grouped_mm"):
            yield Custom("nn.functional.grouped_mm", partial(_grouped, dtype), dtype)


def _plain(v: Values) -> Iterator[Case]:
    a, b, c = v((3, 5, 9), 92, -2, 2), v((3, 9, 7), 93, -2, 2), v((3, 5, 7), 94, -2, 2)
    row = v((9,), 95, -2, 2)
    product = v.cast(a.astype(np.float64) @ b)
    yield case("bmm", (a, b), product)
    yield case("baddbmm", (c, a, b), v.cast(c + 2 * product), alpha=2)
    yield case("addmm", (c[0].copy(), a[0].copy(), b[0].copy()), c[0] + product[0])
    yield case("mv", (a[0].copy(), row), v.cast(a[0].astype(np.float64) @ row))
    yield case("dot", (row, a[0, 0].copy()), v.cast(row.astype(np.float64) @ a[0, 0]))
    yield case("outer", (row, a[0, 0].copy()), np.outer(row, a[0, 0]))
    yield plain("nn.functional.linear", (a, b[0].T.copy()), v.cast(a.astype(np.float64) @ b[0]))


def _complex(v: Values) -> Iterator[Case]:
    a, b, c = v((3, 5, 9), 96, -2, 2), v((3, 9, 7), 97, -2, 2), v((5, 7), 98, -2, 2)
    product = v.cast(a.astype(np.complex128) @ b)
    yield case("bmm", (a, b), product, 0.0)
    yield case("mm", (a[0].copy(), b[0].copy()), product[0], 0.0)
    yield case("addmm", (c, a[0].copy(), b[0].copy()), c + product[0], 0.0)


def _grouped(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    major_minor = capability(device)
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if major_minor is not None and major_minor >= _BLACKWELL and version < _WITH_BLACKWELL:
        raise LeftOut("torch has no kernel for this architecture before 2.13")
    if back_end(device) == "hip" and version < _WITH_ROCM:
        raise LeftOut("torch on ROCm leaves gradients of small groups unwritten before 2.12")
    offsets = torch.tensor(np.cumsum(_GROUPS), dtype=torch.int32, device=device)
    multiply: Any = partial(torch.nn.functional.grouped_mm, offs=offsets)
    layer = Layer("nn.functional.grouped_mm", multiply, (_ROWS, _WEIGHTS), _by_groups)
    yield from comparisons(layer, dtype, device)


def _by_groups(x: Rounded, w: Rounded) -> tuple[Rounded, Backward]:
    ends = np.cumsum(_GROUPS)
    parts = [slice(end - size, end) for end, size in zip(ends, _GROUPS, strict=True)]
    out = np.concatenate([x.value[part] @ w.value[e] for e, part in enumerate(parts)])

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        of_x = np.concatenate([g.value[part] @ w.value[e].T for e, part in enumerate(parts)])
        of_w = np.stack([x.value[part].T @ g.value[part] for part in parts])
        return x.exactly(of_x), x.exactly(of_w)

    return x.exactly(out), backward

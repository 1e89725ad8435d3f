"""Large and empty tensors."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array, case, on_device, plain
from probes.kit.operands import F32, integers
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial, fact, refused


def large(_device: str) -> Iterator[Trial]:
    """A million elements: more than one thread or one launch processes."""
    windows = np.lib.stride_tricks.sliding_window_view(integers((2050,), -4, 4, 75), 1024)
    x = np.ascontiguousarray(windows)  # (1027, 1024)
    yield Custom("sum", partial(_million_elements, x))
    a, b = integers((130, 140), -9, 9, 76), integers((140, 150), -9, 9, 77)
    yield case("mm", (a, b), (a.astype(np.float64) @ b).astype(F32))
    yield Custom("cumsum", partial(_quarter_million_elements, np.ascontiguousarray(x[:259])))


def _million_elements(x: Array, device: str) -> Iterator[Comparison]:
    t = on_device(x, device)
    yield compare("add (large)", t + t, x + x)
    yield compare("sum (large)", t.sum(), np.asarray(x.sum(dtype=np.float64), F32))
    yield compare("sum (large)", t.sum(0), x.sum(0))
    yield compare("sum (large)", t.sum(1), x.sum(1))


def _quarter_million_elements(x: Array, device: str) -> Iterator[Comparison]:
    t = on_device(x, device)
    yield compare("t (large)", t.t().contiguous(), np.ascontiguousarray(x.T))
    total = x.ravel().cumsum(dtype=np.int64)
    yield compare("cumsum (large)", t.flatten().cumsum(0, dtype=torch.int64), total)
    yield fact("argmax (large)", int(t.flatten().argmax()), int(x.argmax()))
    yield compare("Tensor.__getitem__ (large mask)", t[t > 3], x[x > 3])
    part, expected_part = t.flatten()[: 1 << 14], x.ravel()[: 1 << 14]
    yield compare("sort (large)", part.sort().values, np.sort(expected_part))


def empty(_device: str) -> Iterator[Trial]:
    """Empty tensors: neutral results, right shapes, zeros from empty products, and errors."""
    no_rows = np.zeros((0, 3), F32)
    yield case("sum", (no_rows, 0), np.zeros(3, F32))
    yield case("prod", (no_rows, 0), np.ones(3, F32))
    yield plain("mean", (no_rows, 0), np.full(3, np.nan, F32))
    yield case("cumsum", (no_rows, 0), no_rows)
    yield case("add", (no_rows, no_rows), no_rows)
    yield case("cat", ([no_rows, no_rows],), no_rows)
    yield case("sort", (no_rows,), (no_rows, np.zeros((0, 3), np.int64)), stable=True, dim=0)
    yield case("any", (no_rows > 0, 0), np.zeros(3, bool))
    yield case("all", (no_rows > 0, 0), np.ones(3, bool))
    yield plain("nonzero", (no_rows,), np.zeros((0, 2), np.int64))
    yield case("index_select", (no_rows, 1, np.array([2, 0])), np.zeros((0, 2), F32))
    # The inner dimension is empty: nothing is summed, but all zeros must be written.
    yield case("mm", (np.zeros((5, 0), F32), np.zeros((0, 4), F32)), np.zeros((5, 4), F32))
    yield case(
        "bmm", (np.zeros((2, 5, 0), F32), np.zeros((2, 0, 4), F32)), np.zeros((2, 5, 4), F32)
    )
    yield Custom("max", _max_of_empty)


def _max_of_empty(device: str) -> Iterator[Comparison]:
    nothing = torch.zeros(0, device=device)
    yield refused("max (empty)", lambda: torch.max(nothing))

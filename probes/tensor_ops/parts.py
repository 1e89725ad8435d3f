"""Slicing and joining of tensors: nothing is computed, so all results are exact."""

from collections.abc import Iterator

import numpy as np

from probes.kit.case import case, plain
from probes.kit.operands import F32, integers
from probes.kit.trial import Trial


def slicing(_device: str) -> Iterator[Trial]:
    """Parts of tensors: narrow, split, diagonal, triangle, window."""
    x, a = integers((6, 7, 8), -99, 99, 39), integers((9, 11), -99, 99, 40)
    yield plain("narrow", (x, 1, 2, 4), x[:, 2:6])
    yield plain("select", (x, -1, 3), x[..., 3])
    yield plain("unbind", (x, 1), tuple(x[:, i] for i in range(7)))
    yield plain("split", (x, [1, 4, 2], 1), (x[:, :1], x[:, 1:5], x[:, 5:]))
    yield plain("split", (x, 3, 2), (x[..., :3], x[..., 3:6], x[..., 6:]))
    yield plain("chunk", (x, 3, 1), (x[:, :3], x[:, 3:6], x[:, 6:]))
    yield plain("tensor_split", (x, 3, 1), tuple(np.array_split(x, 3, 1)))
    yield plain("hsplit", (x, [2, 5]), tuple(np.hsplit(x, [2, 5])))
    yield plain("vsplit", (x, 2), tuple(np.vsplit(x, 2)))
    yield plain("dsplit", (x, 4), tuple(np.dsplit(x, 4)))
    for offset in (-2, 0, 3):
        yield case("diag", (a, offset), np.diag(a, offset))
        yield case("tril", (a, offset), np.tril(a, offset))
        yield case("triu", (a, offset), np.triu(a, offset))
        yield plain("diagonal", (x, offset, 0, 2), np.diagonal(x, offset, 0, 2))
    yield case("diag", (a[0].copy(), 1), np.diag(a[0], 1))
    yield plain("diag_embed", (a,), np.stack([np.diag(row) for row in a]))
    windows = np.stack([a[:, i : i + 4] for i in (0, 3, 6)], 1)
    yield plain("Tensor.unfold", (a, 1, 4, 3), windows)
    yield plain("unfold_copy", (a, 1, 4, 3), windows)


def joining(_device: str) -> Iterator[Trial]:
    """Tensors joined, repeated and padded."""
    a, b, c = (integers(shape, -99, 99, 41) for shape in ((3, 4), (2, 4), (0, 4)))
    row = integers((4,), -99, 99, 42)
    yield case("cat", ([a, b, c, a],), np.concatenate([a, b, c, a]))
    yield case("cat", ([a, a], -1), np.concatenate([a, a], -1))
    many = [integers((i % 5 + 1, 3), -99, 99, i) for i in range(130)]
    yield case("cat", (many,), np.concatenate(many))  # more parts than one launch takes
    yield case("stack", ([a, a + 1], 1), np.stack([a, a + 1], 1))
    yield case("hstack", ([a, a],), np.hstack([a, a]))
    yield case("vstack", ([a, b],), np.vstack([a, b]))
    yield case("dstack", ([a, a],), np.dstack([a, a]))
    yield case("column_stack", ([row, row],), np.column_stack([row, row]))
    block = np.zeros((5, 8), F32)
    block[:3, :4], block[3:, 4:] = a, b
    yield plain("block_diag", (a, b), block)
    yield plain(
        "meshgrid",
        (row, a[:, 0].copy()),
        tuple(np.meshgrid(row, a[:, 0], indexing="ij")),
        indexing="ij",
    )
    grid = np.array([[i, j] for i in row for j in row], F32)
    yield plain("cartesian_prod", (row, row), grid)
    pairs = np.array([[row[i], row[j]] for i in range(4) for j in range(i + 1, 4)], F32)
    yield plain("combinations", (row,), pairs)
    yield plain("Tensor.repeat", (a, 2, 1, 3), np.tile(a, (2, 1, 3)))
    yield plain("tile", (a, (2, 3)), np.tile(a, (2, 3)))
    yield plain("repeat_interleave", (a, 3, 1), np.repeat(a, 3, 1))
    counts = np.array([2, 0, 5])
    yield plain("repeat_interleave", (a, counts, 0), np.repeat(a, counts, 0))
    yield plain("broadcast_to", (row, (3, 4)), np.broadcast_to(row, (3, 4)))
    yield plain("Tensor.expand", (a[:, :1].copy(), 3, 4), np.broadcast_to(a[:, :1], (3, 4)))
    for mode, numpy_mode in (
        ("constant", "constant"),
        ("reflect", "reflect"),
        ("replicate", "edge"),
        ("circular", "wrap"),
    ):
        padded = np.pad(a[None], ((0, 0), (0, 0), (2, 1)), mode=numpy_mode)  # type: ignore[call-overload]
        yield plain("nn.functional.pad", (a[None].copy(), (2, 1), mode), padded)

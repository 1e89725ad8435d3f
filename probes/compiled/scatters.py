"""Views, and scatters into them: values and gradients of integers, whose bits are compared.

Each result is summed as it is, so that the gradient that arrives is one number, broadcast: torch
2.9.1 writes a scatter's zeros into all places of that one number.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from probes.compiled.workspace import compiled
from probes.contract import Comparison
from probes.kit.gradients import Array, host, integers, leaf
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial

_SIZE: Final = 5


@dataclass(frozen=True)
class _Scatter:
    """An operation on a (SIZE, SIZE) matrix and a source, and what it does to an array."""

    call: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    source: tuple[int, ...]
    #: Writes, or adds, the source to the array in place.
    write: Callable[[Array, Array], object]
    adds: bool = False  # the matrix keeps its gradient everywhere


def _assign(place: Any) -> Callable[[Array, Array], object]:
    return lambda array, source: array.__setitem__(place, source)


def _diagonal(offset: int) -> Callable[[Array, Array], object]:
    rows = np.arange(_SIZE - offset)
    return _assign((rows, rows + offset))


_PLACES: Final = (0, 2, 2)
_INDEX: Final = [[0, 1, 2, 3, 4], [1, 1, 0, 4, 2]]


def _index(device: torch.device) -> torch.Tensor:
    return torch.tensor(_INDEX, device=device)


def _add_rows(array: Array, source: Array) -> None:
    np.add.at(array, list(_PLACES), source)


def _add_at_index(array: Array, source: Array) -> None:
    np.add.at(array, (np.array(_INDEX), np.arange(_SIZE)), source)


def _rows(x: torch.Tensor) -> torch.Tensor:
    return torch.tensor(_PLACES, device=x.device)


#: Name -> the scatter; all are in one graph.
_SCATTERS: Final[dict[str, _Scatter]] = {
    "diagonal_scatter": _Scatter(
        lambda x, s: torch.diagonal_scatter(x, s, 0), (_SIZE,), _diagonal(0)
    ),
    "diagonal_scatter (offset)": _Scatter(
        lambda x, s: torch.diagonal_scatter(x, s, 2), (_SIZE - 2,), _diagonal(2)
    ),
    "slice_scatter": _Scatter(
        lambda x, s: torch.slice_scatter(x, s, 1, 1, 4), (_SIZE, 3), _assign(np.s_[:, 1:4])
    ),
    "slice_scatter (step)": _Scatter(
        lambda x, s: torch.slice_scatter(x, s, 0, 0, 5, 2), (3, _SIZE), _assign(np.s_[::2])
    ),
    "select_scatter": _Scatter(
        lambda x, s: torch.select_scatter(x, s, 0, 3), (_SIZE,), _assign(np.s_[3])
    ),
    "index_add": _Scatter(
        lambda x, s: x.index_add(0, _rows(x), s), (3, _SIZE), _add_rows, adds=True
    ),
    "scatter_add": _Scatter(
        lambda x, s: x.scatter_add(0, _index(x.device), s), (2, _SIZE), _add_at_index, adds=True
    ),
    "index_put": _Scatter(
        lambda x, s: x.index_put((torch.tensor([4, 1], device=x.device),), s),
        (2, _SIZE),
        _assign(np.s_[[4, 1]]),
    ),
}

#: Name -> a view of a matrix, in torch and in NumPy.
_VIEWS: Final[dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[Any], Any]]]] = {
    "diagonal": (lambda x: x.diagonal(1) * 2, lambda a: a.diagonal(1) * 2),
    "transposed slice": (lambda x: x.t()[1:, ::2] + 1, lambda a: a.T[1:, ::2] + 1),
    "as_strided": (
        lambda x: x.as_strided((3, 4), (5, 2), 1) * 1,
        lambda a: np.lib.stride_tricks.as_strided(a.ravel()[1:], (3, 4), (5 * 8, 2 * 8)),
    ),
    "unfold": (
        lambda x: x.unfold(1, 3, 2) - 1,
        lambda a: np.lib.stride_tricks.sliding_window_view(a, 3, 1)[:, ::2] - 1,
    ),
    "flip and roll": (lambda x: x.flip(0).roll(2, 1), lambda a: np.roll(a[::-1], 2, 1)),
    "expand": (lambda x: x[:, :1].expand(5, 4) * 3, lambda a: np.repeat(a[:, :1], 4, 1) * 3),
    "split": (lambda x: torch.cat(x.split([2, 3])[::-1]), lambda a: np.concatenate([a[2:], a[:2]])),
}


def views_and_scatters(_device: str) -> Iterator[Trial]:
    """All scatters in one graph with their gradients, and all views in another."""
    yield Custom("scatters", _scatters)
    yield Custom("views", _views)


def _scatter_all(matrices: list[torch.Tensor], sources: list[torch.Tensor]) -> list[torch.Tensor]:
    rows = zip(_SCATTERS.values(), matrices, sources, strict=True)
    return [each.call(x, s) for each, x, s in rows]


def _view_all(matrices: list[torch.Tensor]) -> list[torch.Tensor]:
    return [call(x) for (call, _), x in zip(_VIEWS.values(), matrices, strict=True)]


def _total(results: list[torch.Tensor]) -> torch.Tensor:
    """The sum of all. Only it is returned: torch 2.9.1 was right where the parts were as well."""
    total = results[0].sum()
    for each in results[1:]:
        total = total + each.sum()
    return total


def _scatters(device: str) -> Iterator[Comparison]:
    shapes = [each.source for each in _SCATTERS.values()]
    matrix = [integers((_SIZE, _SIZE), 50 + i) for i in range(len(shapes))]
    source = [integers(shape, 70 + i) for i, shape in enumerate(shapes)]
    x, s = ([leaf(each, device) for each in arrays] for arrays in (matrix, source))
    with torch.no_grad():
        results = compiled(_scatter_all)(x, s)
    compiled(lambda matrices, sources: _total(_scatter_all(matrices, sources)))(x, s).backward()
    for i, (name, each) in enumerate(_SCATTERS.items()):
        right, kept = matrix[i].copy(), np.ones((_SIZE, _SIZE))
        each.write(right, source[i])
        if not each.adds:
            each.write(kept, np.zeros(shapes[i]))
        yield compare(name, host(results[i]), right.astype(np.float32))
        yield _compare_gradient(f"gradient of {name}", x[i], kept)
        yield _compare_gradient(f"gradient of the source of {name}", s[i], np.ones(shapes[i]))


def _compare_gradient(name: str, of: torch.Tensor, right: Array) -> Comparison:
    if of.grad is None:
        return Comparison(operation=name, problem="no gradient")
    return compare(name, host(of.grad), right.astype(np.float32))


def _views(device: str) -> Iterator[Comparison]:
    matrices = [integers((_SIZE, _SIZE), 90 + i) for i in range(len(_VIEWS))]
    leaves = [leaf(each, device) for each in matrices]
    with torch.no_grad():
        results = compiled(_view_all)(leaves)
    compiled(lambda leaves: _total(_view_all(leaves)))(leaves).backward()
    rows = zip(_VIEWS.items(), matrices, leaves, results, strict=True)
    for (name, (_, view)), matrix, x, result in rows:
        yield compare(name, host(result), np.asarray(view(matrix.copy()), np.float32))
        yield _compare_gradient(f"gradient of {name}", x, _gradient_of(view))


def _gradient_of(view: Callable[[Any], Any]) -> Array:
    """By the difference that one more makes in each place: the views are linear."""
    right = np.empty((_SIZE, _SIZE))
    before = np.sum(view(np.zeros_like(right)))
    for place in np.ndindex(right.shape):
        one = np.zeros_like(right)
        one[place] = 1
        right[place] = np.sum(view(one)) - before
    return right

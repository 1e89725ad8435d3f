"""Operations that autocast runs in the widest type of their operands."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.amp.functions import ONE, small
from probes.amp.regions import Array
from probes.amp.rows import Row, trials
from probes.kit.gradients import integers
from probes.kit.trial import Trial

_GPU: Final = ("cuda", "xpu")
_CUDA: Final = ("cuda",)
_CPU: Final = ("cpu",)


def widest_type(device: str) -> Iterator[Trial]:
    """All in the lower type, and one in float32: the first, or all but the first."""
    single = torch.float32

    def types(lower: torch.dtype) -> Any:
        return (((lower,), lower), ((lower, single), single), ((single, lower), single))

    yield from trials(rows(), device, types)


def rows() -> Iterator[Row]:
    """The tables of all types of device; all answers are exact in the lower types."""
    a, b, c = integers((4, 6), 50), integers((4, 6), 51), 2.0 ** np.abs(integers((4, 6), 52) // 3)
    places = np.array([[0, 2, 5, 1, 3, 4]] * 2)
    yield Row("addcmul", torch.addcmul, (a, b, c), a + b * c, _CUDA)
    yield Row("addcdiv", torch.addcdiv, (a, 4 * b, c), a + 4 * b / c, _CUDA)
    x = small()[::-1]
    y = np.resize([0.5, -1.5, 1.0], x.shape)
    x = x.copy()
    yield Row("atan2", torch.atan2, (x, y), np.arctan2(x, y), _CUDA, ONE)
    vectors = integers((5, 3), 53), integers((5, 3), 54)
    yield Row("cross", lambda v, w: torch.cross(v, w, 1), vectors, np.cross(*vectors), _GPU)
    yield Row("dot", torch.dot, (a[0].copy(), b[0].copy()), np.dot(a[0], b[0]), _CUDA)
    yield Row(
        "tensordot", lambda v, w: torch.tensordot(v, w, 2), (a, b), np.asarray((a * b).sum()), _GPU
    )
    weight = np.sign(integers((2, 3, 4), 55))
    first, second = integers((5, 3), 56), np.sign(integers((5, 4), 57))
    right = np.einsum("ni,oij,nj->no", first, weight, second)
    yield Row("bilinear", torch.nn.functional.bilinear, (first, second, weight), right, _GPU)
    image, grid = _image()
    yield Row("grid_sample", _grid_sample, (image, grid), image[..., ::-1].copy(), _GPU)
    put = a.copy()
    put[[3, 0]] = b[:2]
    rows_put = np.array([3, 0])
    yield Row("index_put", _index_put, (a, b[:2].copy(), rows_put), put, _GPU)
    scattered = a.copy()
    np.add.at(scattered, (np.arange(2)[:, None], places), b[:2])
    yield Row("scatter_add", _scatter_add, (a, b[:2].copy(), places), scattered, _GPU)
    yield Row("cat", lambda *each: torch.cat(each), (a, b, c), np.concatenate([a, b, c]), _CPU)
    yield Row("stack", lambda *each: torch.stack(each), (a, b, c), np.stack([a, b, c]), _CPU)
    yield Row("index_copy", _index_copy, (a, b[:2].copy(), rows_put), put, _CPU)


def _image() -> tuple[Array, Array]:
    """An image, and a grid that mirrors it: the centers of its pixels."""
    centers = (2 * np.arange(4) + 1) / 4 - 1
    return integers((1, 2, 4, 4), 58), np.stack(np.meshgrid(centers[::-1], centers), -1)[None]


def _grid_sample(image: Any, grid: Any) -> torch.Tensor:
    return torch.nn.functional.grid_sample(image, grid, align_corners=False)


def _index_put(a: Any, values: Any, rows_put: Any) -> torch.Tensor:
    return torch.index_put(a, (rows_put,), values)


def _index_copy(a: Any, values: Any, rows_put: Any) -> torch.Tensor:
    return torch.index_copy(a, 0, rows_put, values)


def _scatter_add(a: Any, values: Any, places: Any) -> torch.Tensor:
    return torch.scatter_add(a, 1, places, values)

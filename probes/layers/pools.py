"""The sizes of poolings, in one to three dimensions, and operands for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from probes.kit.operands import fractions
from probes.kit.rounding import Array
from probes.layers.windows import windows


@dataclass(frozen=True)
class Pool:
    """The sizes of one pooling, an entry for each dimension."""

    shape: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...] = ()
    #: A last window may reach beyond the end, where it begins before that: `ceil_mode`.
    ceil: bool = False

    def __str__(self) -> str:
        """The options of the call."""
        parts = [f"kernel {by(self.kernel)}", f"stride {by(self.stride)}"]
        parts += [f"padding {by(self.padding)}"] if any(self.padding) else []
        parts += [f"dilation {by(self.dilation)}"] if self.dilation else []
        parts += ["ceil_mode"] if self.ceil else []
        return ", ".join(parts)

    @property
    def axes(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def over(self, values: Any, fill: float = 0.0) -> Any:
        """Its windows over the last axes."""
        beyond = [stride - 1 if self.ceil else 0 for stride in self.stride]
        steps = self.dilation or None
        found = windows(values, self.kernel, self.stride, self.padding, steps, fill, beyond)
        begun: Any = (..., *self._begun, *[slice(None)] * self.axes)
        return found[begun]

    @property
    def _begun(self) -> list[slice]:
        """The windows that begin before the end, along each axis."""
        sides = zip(self.shape, self.padding, self.stride, strict=True)
        return [slice(-(-(size + pad) // stride)) for size, pad, stride in sides]


#: Windows that overlap, windows with gaps, and more outputs than a warp or a vector has.
POOLS: Final = (
    Pool((23,), (3,), (2,), (1,)),
    Pool((12,), (3,), (3,), (0,)),
    Pool((7, 9), (2, 2), (2, 2), (0, 0)),
    Pool((4, 6, 5), (2, 2, 2), (2, 2, 2), (0, 0, 0)),
    Pool((9, 11), (3, 3), (2, 2), (1, 1)),
    Pool((8, 9), (3, 2), (1, 3), (1, 0)),
    Pool((5, 6, 7), (2, 3, 2), (2, 2, 3), (1, 1, 0)),
    Pool((10,), (3,), (2,), (0,), ceil=True),
    Pool((6, 8), (3, 3), (2, 2), (0, 1), ceil=True),
    Pool((7, 5), (2, 1), (3, 3), (0, 0), ceil=True),
    Pool((6, 5, 4), (3, 2, 2), (2, 2, 2), (0, 0, 1), ceil=True),
)


LEAD: Final = (2, 3)


def ranked(shape: tuple[int, ...], salt: int) -> Array:
    """Numbers with 8 bits, no two equal in a plane of at most 255."""
    planes = int(np.prod(shape[:2]))
    drawn = fractions((planes, int(np.prod(shape[2:]))), salt)
    values: Array = (np.argsort(np.argsort(drawn, 1), 1) - 120.0) / 32
    return values.reshape(shape)


def by(shape: Sequence[int]) -> str:
    """Sizes as in 3x4."""
    return "x".join(map(str, shape))

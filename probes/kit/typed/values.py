"""Cases in each type: their operands are integers that every type holds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch

from probes.kit.capabilities import has_dtype
from probes.kit.case import NUMPY_OF, Array, Case
from probes.kit.operands import integers
from probes.kit.trial import Custom, Trial

HALVES: Final = (torch.float16, torch.bfloat16)
SINGLES: Final = (torch.float32, torch.float64)
FLOATS: Final = (*SINGLES, *HALVES)
WHOLE: Final = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
COMPLEX: Final = (torch.complex64, torch.complex128)
BOOL: Final = (torch.bool,)
REAL: Final = (*FLOATS, *WHOLE)
ALL: Final = (*REAL, *COMPLEX, *BOOL)


@dataclass(frozen=True)
class Values:
    """Reproducible operands of one type."""

    dtype: torch.dtype

    @property
    def kind(self) -> Any:
        """The NumPy type that holds every value."""
        return NUMPY_OF[self.dtype]

    @property
    def floating(self) -> bool:
        """Whether it is a real floating type."""
        return self.dtype.is_floating_point

    def __call__(self, shape: tuple[int, ...], salt: int, low: int = -9, high: int = 9) -> Array:
        """Integers from low, in uint8 from 0, to high; truth values; complex integers."""
        if self.dtype == torch.bool:
            return integers(shape, 0, 1, salt, np.bool_)
        if self.dtype == torch.uint8:
            low = max(low, 0)
        real = integers(shape, low, high, salt, np.int64)
        if self.dtype.is_complex:
            real = real + 1j * integers(shape, low, high, salt + 1, np.int64)
        return np.asarray(real.astype(self.kind))

    def cast(self, answer: Array) -> Array:
        """An answer, computed in another type, in this one."""
        return np.asarray(answer).astype(self.kind)


Table = Callable[[Values], Iterator[Case]]

#: Tables, and the types in which the operations of each are defined.
Tables = tuple[tuple[Table, tuple[torch.dtype, ...]], ...]


def tried(
    tables: Tables, device: str, dtypes: tuple[torch.dtype, ...] = ALL, *, once: bool = False
) -> Iterator[Trial]:
    """The cases of tables in those of the types that the device has, `once` or as a `Case` is.

    A case is left out where the build has no kernel of the operation in that type.
    """
    for table, defined in tables:
        for dtype in (each for each in defined if each in dtypes and has_dtype(device, each)):
            for each in table(Values(dtype)):
                run = replace(each, dtype=dtype, once=once, out=each.out and not once).run
                yield Custom(each.operation, run, dtype, optional_kernel=True)

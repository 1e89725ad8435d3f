"""Operations in types that training uses beside float32: a half type, integers and truth values."""

from collections.abc import Iterator
from typing import Final

import torch

from probes.kit.trial import Trial
from probes.kit.typed.arithmetic import ARITHMETIC, IN_PLACE
from probes.kit.typed.comparisons import COMPARISONS, LOGIC
from probes.kit.typed.creation import CREATION
from probes.kit.typed.moving import MOVING, assigned
from probes.kit.typed.reductions import REDUCTIONS
from probes.kit.typed.values import tried

_TABLES: Final = (
    *COMPARISONS,
    *LOGIC,
    *ARITHMETIC,
    *IN_PLACE,
    *MOVING,
    *CREATION,
    *REDUCTIONS,
)
_TYPES: Final = (torch.bfloat16, torch.int64, torch.bool)

#: Of factories: the other checks call few of them in these.
_WIDE: Final = (torch.float32, torch.float64)


def types(device: str) -> Iterator[Trial]:
    """Each once, with contiguous operands: profile standard has all types and layouts."""
    yield from tried(_TABLES, device, _TYPES, once=True)
    yield from tried(CREATION, device, _WIDE, once=True)
    yield from assigned(device, _TYPES)

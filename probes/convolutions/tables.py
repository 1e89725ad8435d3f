"""The problems of each check."""

from typing import Final

from probes.convolutions.problems import Problem
from probes.kit.convolutions import Convolution, moving


def _uneven(
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
) -> Convolution:
    return Convolution(stride, padding, dilation, groups)


#: Patches of an image, as vision transformers take them: each number is in one.
PATCHES: Final = Problem((2, 3, 32, 48), (8, 3, 16, 16), moving(2, 16), sparse=10)

#: The shapes of ordinary models: filters of 1 to 7, strides, padding, dilation, one to three axes.
FORWARD: Final = (
    Problem((2, 6, 23), (4, 6, 3), moving(1, padding=1)),
    Problem((2, 6, 23), (4, 6, 5), moving(1, 2, 2), bias=False),
    Problem((2, 6, 23), (4, 6, 3), moving(1, dilation=4, padding=4)),
    Problem((2, 8, 9, 11), (8, 8, 3, 3), moving(2, padding=1)),
    Problem((2, 8, 9, 11), (8, 8, 3, 3), moving(2, 2, 1)),
    Problem((2, 8, 9, 11), (8, 8, 3, 3), moving(2, padding=2, dilation=2), bias=False),
    Problem((2, 4, 9, 11), (6, 4, 5, 5), moving(2, padding=2)),
    Problem((2, 3, 16, 16), (8, 3, 7, 7), moving(2, 2, 3)),
    Problem((2, 8, 7, 9), (12, 8, 1, 1), moving(2)),
    Problem((2, 8, 7, 9), (12, 8, 1, 1), moving(2, 2), bias=False),
    Problem((2, 4, 9, 11), (6, 4, 1, 7), _uneven((2, 1), (0, 6), (1, 2))),
    Problem((2, 4, 9, 11), (6, 4, 5, 2), _uneven((1, 3), (4, 1), (2, 1))),
    Problem((1, 4, 5, 5), (6, 4, 5, 5), moving(2)),
    PATCHES,
    Problem((1, 4, 2, 3), (6, 4, 3, 3), moving(2, padding=3)),
    Problem((2, 3, 5, 6, 7), (4, 3, 3, 3, 3), moving(3, padding=1)),
    Problem((2, 3, 5, 6, 7), (4, 3, 2, 3, 2), moving(3, 2, 1)),
    Problem((1, 3, 6, 7, 8), (4, 3, 2, 2, 2), moving(3, dilation=2), bias=False),
)

#: Groups, of which depthwise filters are the smallest: they have kernels of their own.
GROUPED: Final = (
    Problem((2, 8, 9, 11), (6, 4, 3, 3), moving(2, padding=1, groups=2)),
    Problem((2, 9, 9, 11), (6, 3, 3, 3), moving(2, 2, 1, groups=3), bias=False),
    Problem((2, 8, 7, 9), (8, 2, 1, 1), moving(2, groups=4)),
    Problem((2, 8, 9, 11), (8, 1, 3, 3), moving(2, padding=1, groups=8)),
    Problem((2, 8, 9, 11), (8, 1, 3, 3), moving(2, 2, 1, groups=8), bias=False),
    Problem((2, 8, 9, 11), (16, 1, 3, 3), moving(2, padding=2, dilation=2, groups=8)),
    Problem((2, 8, 9, 11), (8, 1, 5, 5), moving(2, padding=2, groups=8)),
    Problem((2, 64, 8, 8), (64, 1, 7, 7), moving(2, padding=3, groups=64)),
    Problem((2, 8, 23), (8, 1, 4), moving(1, padding=3, groups=8)),
    Problem((2, 8, 23), (4, 2, 3), moving(1, dilation=2, groups=4)),
    Problem((1, 4, 5, 6, 7), (4, 1, 3, 3, 3), moving(3, padding=1, groups=4)),
    Problem((1, 4, 5, 6, 7), (6, 2, 2, 2, 2), moving(3, 2, groups=2)),
)

TRANSPOSED: Final = (
    Problem((2, 6, 11), (6, 4, 3), moving(1), transposed=True),
    Problem((2, 6, 11), (6, 4, 4), moving(1, 2, 1), transposed=True),
    Problem((2, 8, 5, 7), (8, 6, 2, 2), moving(2, 2), transposed=True),
    Problem((2, 8, 5, 7), (8, 6, 4, 4), moving(2, 2, 1), transposed=True, bias=False),
    Problem((2, 8, 5, 7), (8, 6, 3, 3), moving(2, 2, 1), True, True, (1, 1)),
    Problem((2, 8, 5, 7), (8, 6, 3, 3), moving(2, padding=1), transposed=True),
    Problem((2, 8, 5, 7), (8, 6, 3, 3), moving(2, dilation=2, padding=1), transposed=True),
    Problem((2, 8, 5, 7), (8, 3, 3, 3), moving(2, 2, 1, groups=2), transposed=True),
    Problem((2, 8, 5, 7), (8, 1, 4, 4), moving(2, 2, 1, groups=8), True, True),
    Problem((2, 4, 5, 7), (4, 6, 3, 2), _uneven((2, 3), (1, 0), (1, 1)), True, True, (0, 2)),
    Problem((1, 4, 3, 4, 5), (4, 3, 2, 2, 2), moving(3, 2), transposed=True),
    Problem((1, 4, 3, 4, 5), (4, 3, 3, 3, 3), moving(3, 2, 1), True, True, (1, 1, 1)),
    Problem((1, 4, 3, 4, 5), (4, 2, 2, 2, 2), moving(3, 2, groups=2), transposed=True),
    Problem((2, 6, 11), (6, 2, 4), moving(1, 2, 1, groups=3), True, True, (1,)),
)

#: Many channels, large filters, long signals; weights are mostly 0, so that sums stay small.
LARGE: Final = (
    Problem((2, 1040, 5, 5), (16, 1040, 3, 3), moving(2, 2, 1), sparse=100),
    Problem((2, 1100, 4, 5), (24, 1100, 1, 1), moving(2), sparse=12),
    Problem((2, 16, 4, 5), (1088, 16, 1, 1), moving(2), sparse=2),
    Problem((1, 1036, 3, 4), (1036, 8, 4, 4), moving(2, 2, 1), transposed=True, sparse=80),
    Problem((2, 1056, 9), (8, 1056, 3), moving(1, padding=1), sparse=40),
    Problem((1, 1032, 5, 6), (1032, 1, 3, 3), moving(2, padding=1, groups=1032)),
    Problem((1, 2, 40, 40), (3, 2, 31, 31), moving(2, 3, 15), sparse=20, in_half_on_cpu=False),
    Problem(
        (1, 4, 17, 16),
        (4, 1, 31, 31),
        moving(2, padding=15, groups=4),
        sparse=10,
        in_half_on_cpu=False,
    ),
    Problem((2, 4, 4100), (6, 4, 65), moving(1, 4, dilation=3, padding=96), sparse=3),
    Problem((1, 520, 6, 6), (520, 4, 3, 3), moving(2, 2, 1, groups=130), sparse=1),
    Problem((300, 4, 5, 5), (6, 4, 3, 3), moving(2, 2, 1)),
    Problem((1, 1, 257, 129), (2, 1, 3, 3), moving(2, padding=1)),
)
_BATCHES: Final = (0, 1, 65537)
BATCHES: Final = (
    *(Problem((n, 2, 3, 3), (3, 2, 2, 2), moving(2, 2)) for n in _BATCHES),
    Problem((0, 4, 9), (6, 4, 3), moving(1, padding=1)),
)

#: Sums over places and items stay at most 256, so that half types are exact here too.
GRADIENTS: Final = (
    Problem((2, 6, 23), (4, 6, 5), moving(1, 2, 2)),
    Problem((2, 8, 7, 8), (8, 8, 3, 3), moving(2, padding=1)),
    Problem((2, 8, 9, 11), (8, 8, 3, 3), moving(2, 2, 1)),
    Problem((2, 8, 9, 9), (8, 8, 3, 3), moving(2, dilation=2, padding=1)),
    Problem((2, 3, 16, 16), (6, 3, 7, 7), moving(2, 2, 3)),
    Problem((2, 8, 7, 9), (12, 8, 1, 1), moving(2)),
    Problem((2, 4, 9, 11), (6, 4, 1, 7), _uneven((2, 1), (0, 6), (1, 2))),
    Problem((2, 8, 9, 11), (6, 4, 3, 3), moving(2, 2, 1, groups=2)),
    Problem((2, 8, 7, 8), (8, 1, 3, 3), moving(2, padding=1, groups=8)),
    Problem((2, 8, 9, 11), (16, 1, 3, 3), moving(2, 2, 1, groups=8)),
    Problem((2, 8, 5, 7), (8, 6, 3, 3), moving(2, 2, 1), True, True, (1, 1)),
    Problem((2, 8, 5, 7), (8, 3, 2, 2), moving(2, 2, groups=2), transposed=True),
    Problem((1, 3, 5, 6, 7), (4, 3, 3, 3, 3), moving(3, 2, 1)),
    Problem((1, 1040, 5, 5), (16, 1040, 3, 3), moving(2, 2, 1), sparse=100),
    Problem((0, 4, 5, 5), (6, 4, 3, 3), moving(2, 2, 1)),
    PATCHES,
    Problem((2, 8, 23), (8, 1, 4), moving(1, padding=3, groups=8)),
    Problem((2, 6, 23), (4, 6, 3), moving(1, dilation=4, padding=4)),
    Problem((2, 6, 11), (6, 2, 4), moving(1, 2, 1, groups=3), True, True, (1,)),
    Problem((1, 4, 5, 6, 7), (4, 1, 3, 3, 3), moving(3, padding=1, groups=4)),
)

#: In channels_last a library takes kernels of its own.
CHANNELS_LAST: Final = (
    FORWARD[3],
    FORWARD[4],
    FORWARD[5],
    FORWARD[8],
    FORWARD[9],
    FORWARD[16],
    GROUPED[0],
    GROUPED[3],
    TRANSPOSED[4],
)
CHANNELS_LAST_GRADIENTS: Final = (
    GRADIENTS[1],
    GRADIENTS[2],
    GRADIENTS[5],
    GRADIENTS[8],
    GRADIENTS[10],
    GRADIENTS[12],
)

#: For parts of the gradients: what is frozen gets none.
FROZEN: Final = (GRADIENTS[2], GRADIENTS[8], GRADIENTS[10], GRADIENTS[12])

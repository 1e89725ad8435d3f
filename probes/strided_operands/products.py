"""Matrix products of operands of every layout: integers, so that bits are equal in each type.

Partial sums stay below 2^8, so that sums kept in a half type are exact too.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch

from probes.kit.capabilities import back_end
from probes.kit.trial import Trial
from probes.strided_operands.memory import Operand
from probes.strided_operands.operations import SINGLE, WHOLE, Operation, read
from probes.strided_operands.places import Shape

_COMPLEX: Final = (torch.complex64,)


def _m(*shape: int) -> Operand:
    return Operand(shape, -2, 2, read_on=True)


def _product(
    name: str, shapes: tuple[Shape, ...], answer: Any, *after: Any, **fields: Any
) -> Operation:
    """Sums of products: the sign of a zero is not promised."""
    operands = tuple(_m(*shape) for shape in shapes)
    return Operation(name, operands, answer, after, allowed=lambda *_: 0.0, **fields)


def _adjoint(x: torch.Tensor, y: torch.Tensor, **out: Any) -> torch.Tensor:
    """A product with a conjugate that is only a mark on the tensor."""
    return torch.mm(x.mH, y.conj(), **out)


def _general() -> Iterator[Operation]:
    yield _product("mm", ((9, 17), (17, 13)), np.matmul)
    yield _product("mm", ((33, 40), (40, 24)), np.matmul, dtypes=(torch.float32, torch.bfloat16))
    yield _product(
        "mm", ((17, 9), (17, 5)), lambda x, y: x.conj().T @ y.conj(), dtypes=_COMPLEX, call=_adjoint
    )
    # Rows, columns and numbers, whose strides may be anything; and no terms at all.
    for m, k, n in (
        (1, 17, 13),
        (9, 1, 13),
        (9, 17, 1),
        (1, 17, 1),
        (1, 1, 1),
        (3, 0, 5),
        (0, 4, 3),
    ):
        yield _product("mm", ((m, k), (k, n)), np.matmul, dtypes=(torch.float32, torch.float16))
    yield _product(
        "addmm",
        ((9, 13), (9, 17), (17, 13)),
        lambda c, x, y: x @ y - 2 * c,
        options={"beta": -2},
    )
    yield _product("addmm", ((13,), (9, 17), (17, 13)), lambda c, x, y: c + x @ y)
    yield _product("addmm", ((9, 1), (9, 17), (17, 13)), lambda c, x, y: c + x @ y, dtypes=SINGLE)
    yield _product("mv", ((9, 17), (17,)), np.matmul)
    yield _product("addmv", ((9,), (9, 17), (17,)), lambda c, x, y: c + x @ y, dtypes=SINGLE)
    yield _product("dot", ((33,), (33,)), np.dot)
    yield _product("outer", ((9,), (13,)), np.outer)
    yield _product(
        "addr", ((9, 13), (9,), (13,)), lambda c, x, y: c + np.outer(x, y), dtypes=SINGLE
    )


def _batched() -> Iterator[Operation]:
    yield _product("bmm", ((3, 5, 17), (3, 17, 7)), np.matmul)
    yield _product("bmm", ((1, 5, 17), (1, 17, 7)), np.matmul, dtypes=SINGLE)
    yield _product("bmm", ((3, 1, 17), (3, 17, 1)), np.matmul, dtypes=SINGLE)
    yield _product("baddbmm", ((3, 5, 7), (3, 5, 17), (3, 17, 7)), lambda c, x, y: c + x @ y)
    yield _product(
        "baddbmm", ((7,), (3, 5, 17), (3, 17, 7)), lambda c, x, y: c + x @ y, dtypes=SINGLE
    )
    yield _product(
        "addbmm", ((5, 7), (3, 5, 7), (3, 7, 7)), lambda c, x, y: c + (x @ y).sum(0), dtypes=SINGLE
    )
    # Their `out=` must be dense: others are refused.
    yield _product("matmul", ((2, 3, 5, 9), (9, 7)), np.matmul, out=False)
    yield _product("matmul", ((2, 1, 5, 9), (3, 9, 7)), np.matmul, dtypes=SINGLE, out=False)
    yield _product("matmul", ((3, 5, 9), (9,)), np.matmul, dtypes=SINGLE, out=False)
    yield _product(
        "nn.functional.linear", ((6, 17), (13, 17), (13,)), lambda x, w, b: x @ w.T + b, out=False
    )
    yield _product(
        "nn.functional.linear",
        ((2, 5, 17), (13, 17)),
        lambda x, w: x @ w.T,
        dtypes=SINGLE,
        out=False,
    )
    yield _product(
        "nn.functional.linear",
        ((2, 5, 17), (13, 17), (13,)),
        lambda x, w, b: x @ w.T + b,
        dtypes=(torch.float32, torch.bfloat16),
        out=False,
    )
    for spec in ("bij,bkj->bik", "bij,bkj->ik", "bij,bkj->bki"):
        yield _product(
            "einsum",
            ((3, 5, 9), (3, 7, 9)),
            lambda x, y, spec=spec: np.einsum(spec, x, y),
            dtypes=SINGLE,
            out=False,
            call=lambda x, y, spec=spec: torch.einsum(spec, x, y),
        )


PRODUCTS: Final = (*_general(), *_batched())

#: Products of integers, which only the CPU has.
ON_CPU: Final = tuple(
    replace(each, dtypes=WHOLE, allowed=None)
    for each in PRODUCTS
    if each.name in {"mm", "bmm"} and each.dtypes != _COMPLEX
)


def products(device: str) -> Iterator[Trial]:
    """Matrices, batches and vectors: stored by rows and columns, sliced, expanded, overlapping."""
    more = ON_CPU if back_end(device) == "cpu" else ()
    return read((*PRODUCTS, *more), device)

"""Backward passes with a gradient that the caller gives: of vectors, of several roots, batched."""

from typing import Final

import numpy as np
import torch
from pydantic import JsonValue

from probes.contract import Comparison
from probes.kit.facts import REFUSED, Steps, refused
from probes.kit.gradients import host, integers, leaf, new_leaf, numbers, tensor
from probes.kit.references import attempted, compare

#: The expected value of each fact; the leaf is x = [1, 2, 3].
EXPECTED: Final[dict[str, dict[str, JsonValue]]] = {
    "vector_refused": {
        "without": REFUSED,
        "grad_without": REFUSED,
        "wrong_shape": REFUSED,
        "nothing_added": None,
    },
    "vector_jacobian": {
        "backward": [-7.0, -8.0, -9.0],  # [1, -2] [[1, 2, 3], [4, 5, 6]]
        "grad": [-7.0, -8.0, -9.0],
        "two_roots": [-5.0, 32.0, 591.0],  # plus [1, 10, 100] 2 x
        "v_unchanged": [1.0, -2.0],
    },
}


def batched(device: str) -> list[Comparison]:
    """A Jacobian from one backward with a batch of upstream gradients, compared bit for bit."""

    def comparison() -> Comparison:
        matrix, at = integers((4, 3), 88), integers((3,), 89)
        x = leaf(at, device)
        y = tensor(matrix, device) @ x * x[0]
        all_rows = tensor(np.eye(4), device)
        (jacobian,) = torch.autograd.grad(y, x, all_rows, is_grads_batched=True)
        expected = matrix * at[0]
        expected[:, 0] += matrix @ at
        return compare("matmul", host(jacobian), expected.astype(np.float32))

    return [attempted("matmul", comparison, device)]


def vector_refused(device: str) -> Steps:
    """backward() of several numbers raises without a gradient, and with one of wrong shape."""
    x = new_leaf(device)
    yield "without", refused((x * 2).backward)
    yield "grad_without", refused(lambda: torch.autograd.grad(x * 2, x))
    wrong = tensor([1.0, 1.0], device)
    yield "wrong_shape", refused(lambda: (x * 2).backward(gradient=wrong))
    yield "nothing_added", numbers(x.grad)


def vector_jacobian(device: str) -> Steps:
    """With a gradient v, backward() adds v times the Jacobian."""
    matrix = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], device)
    v = tensor([1.0, -2.0], device)
    x = new_leaf(device)
    (matrix @ x).backward(gradient=v)
    yield "backward", numbers(x.grad)
    y = new_leaf(device)
    yield "grad", numbers(torch.autograd.grad(matrix @ y, y, v)[0])
    z = new_leaf(device)
    torch.autograd.backward([matrix @ z, z * z], [v, tensor([1.0, 10.0, 100.0], device)])
    yield "two_roots", numbers(z.grad)
    yield "v_unchanged", numbers(v)

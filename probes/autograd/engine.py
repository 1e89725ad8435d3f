"""What the engine promises: where gradients go, what a graph is, and what must be refused.

Each function yields facts: a name, and plain numbers, booleans or a refusal's text.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from pydantic import JsonValue
from torch import nn

from probes.autograd.trial import leaf, numbers, tensor
from probes.tensors import refusal

Steps = Iterator[tuple[str, JsonValue]]


def own(device: str) -> torch.Tensor:
    """A new leaf [1, 2, 3]."""
    return leaf([1.0, 2.0, 3.0], device)


def made_by(result: torch.Tensor) -> str:
    """The name of the node that made a tensor; empty for a user-made one."""
    return type(result.grad_fn).__name__ if result.grad_fn is not None else ""


class Weight(nn.Module):
    """A module of one parameter [1, 2, 3], which it multiplies with its input."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(tensor([1.0, 2.0, 3.0], device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x * weight, element by element."""
        return x * self.weight


def accumulation(device: str) -> Steps:
    """A second backward adds to .grad; zero_grad starts anew, in both its ways."""
    x = own(device)
    (x * x).sum().backward()
    yield "once", numbers(x.grad)
    (x * x).sum().backward()
    yield "twice", numbers(x.grad)
    (3 * x).sum().backward()
    yield "other_loss", numbers(x.grad)
    x.grad = tensor([-7.0, 0.0, 100.0], device)
    (x * x).sum().backward()
    yield "onto_given", numbers(x.grad)
    x.grad = None
    (x * x).sum().backward()
    yield "after_none", numbers(x.grad)
    y = own(device)
    (y * y + y).sum().backward()  # y is used three times
    yield "several_uses", numbers(y.grad)


def zero_grad(device: str) -> Steps:
    """Module.zero_grad: None by default, zeros on request, and gradients are new after it."""
    module = Weight(device)
    two = tensor([2.0, 2.0, 2.0], device)
    module(two).sum().backward()
    module.zero_grad(set_to_none=False)
    yield "zeros", numbers(module.weight.grad)
    module(two).sum().backward()
    yield "after_zeros", numbers(module.weight.grad)
    module.zero_grad()
    yield "none", numbers(module.weight.grad)
    module(two).sum().backward()
    yield "after_none", numbers(module.weight.grad)


def detach(device: str) -> Steps:
    """detach() gives the same memory without a graph, and no gradient goes through it."""
    x = own(device)
    y = x * 2
    cut = y.detach()
    yield "requires_grad", cut.requires_grad
    yield "made_by", made_by(cut)
    yield "same_memory", cut.data_ptr() == y.data_ptr()
    yield "values", numbers(cut)
    yield "source_keeps_graph", made_by(y)
    (x * (x * x).detach()).sum().backward()
    yield "gradient", numbers(x.grad)
    z = x * 3
    z.detach_()
    yield "in_place", [z.requires_grad, made_by(z)]
    kept = x * 2
    kept.detach().mul_(5)
    yield "write_shows", numbers(kept)


def grad_fn(device: str) -> Steps:
    """A user-made tensor has no grad_fn, a result has one, and it leads back to the leaf."""
    plain = tensor([1.0, 2.0, 3.0], device)
    yield "plain", [plain.requires_grad, made_by(plain)]
    yield "plain_result", [(plain * 2).requires_grad, made_by(plain * 2)]
    x = own(device)
    yield "user_made", [x.requires_grad, made_by(x)]
    y = x * plain
    yield "result", [y.requires_grad, made_by(y)]
    node: Any = y.grad_fn
    yield "inputs", [type(parent).__name__ for parent, _ in node.next_functions]
    yield "leads_to_leaf", node.next_functions[0][0].variable is x
    yield "sum", made_by(y.sum())
    yield "view", made_by(y[1:])
    whole = torch.ones(3, dtype=torch.int64).to(device)
    yield "integers_refused", refusal(whole.requires_grad_)


def leaves(device: str) -> Steps:
    """Only leaves that ask for it get a gradient; a result keeps one after retain_grad()."""
    x, frozen = own(device), tensor([5.0, 5.0, 5.0], device)
    y = x * frozen
    z = y * y
    z.retain_grad()
    yield "is_leaf", [x.is_leaf, frozen.is_leaf, y.is_leaf, z.is_leaf]
    yield "retains_grad", [y.retains_grad, z.retains_grad]
    z.sum().backward()
    yield "leaf", numbers(x.grad)
    yield "frozen", numbers(frozen.grad)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # asking a result for its .grad warns
        yet = numbers(y.grad)
    yield "result", yet
    yield "retained", numbers(z.grad)
    yield (
        "like_its_leaf",
        x.grad is not None
        and [
            x.grad.dtype == x.dtype,
            x.grad.device == x.device,
            x.grad.requires_grad,
        ],
    )
    yield "no_graph_refused", refusal(lambda: frozen.sum().backward())


def scalar_backward(device: str) -> Steps:
    """backward() of one number needs no argument."""
    x = own(device)
    (x * x).sum().backward()
    yield "of_a_scalar", numbers(x.grad)
    y = own(device)
    (y[1:2] * 4).backward()
    yield "of_one_element", numbers(y.grad)
    z = leaf(3.0, device)
    (z * z).backward()
    yield "of_a_scalar_leaf", numbers(z.grad)


def vector_refused(device: str) -> Steps:
    """backward() of several numbers is refused without a gradient, and with one of wrong shape."""
    x = own(device)
    yield "without", refusal(lambda: (x * 2).backward())
    yield "grad_without", refusal(lambda: torch.autograd.grad(x * 2, x))
    wrong = tensor([1.0, 1.0], device)
    yield "wrong_shape", refusal(lambda: (x * 2).backward(gradient=wrong))
    yield "nothing_added", numbers(x.grad)


def vector_jacobian(device: str) -> Steps:
    """With a gradient v, backward() adds v times the Jacobian."""
    matrix = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], device)
    v = tensor([1.0, -2.0], device)
    x = own(device)
    (matrix @ x).backward(gradient=v)
    yield "backward", numbers(x.grad)
    y = own(device)
    yield "grad", numbers(torch.autograd.grad(matrix @ y, y, v)[0])
    z = own(device)
    torch.autograd.backward([matrix @ z, z * z], [v, tensor([1.0, 10.0, 100.0], device)])
    yield "two_roots", numbers(z.grad)
    yield "v_unchanged", numbers(v)


def grad_function(device: str) -> Steps:
    """autograd.grad returns gradients and leaves .grad alone; create_graph allows another."""
    x = own(device)
    (first,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    yield "first", numbers(first)
    (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
    yield "second", numbers(second)
    (third,) = torch.autograd.grad(second.sum(), x)
    yield "third", numbers(third)
    yield "graph", [first.requires_grad, third.requires_grad]
    yield "grad_untouched", numbers(x.grad)
    y, other = x * 2, own(device)
    yield "of_a_result", numbers(torch.autograd.grad((y * y).sum(), y)[0])
    pair = torch.autograd.grad((x * x).sum(), (x, other), allow_unused=True)
    yield "unused", [numbers(each) for each in pair]
    yield "unused_refused", refusal(lambda: torch.autograd.grad((x * x).sum(), other))
    z = own(device)
    (slope,) = torch.autograd.grad((z**3).sum(), z, create_graph=True)
    (slope * slope).sum().backward()  # d (3 z^2)^2 / dz = 36 z^3
    yield "backward_of_gradient", numbers(z.grad)


def changing_graph(device: str) -> Steps:
    """A graph built anew each time, by Python's own branches and loops."""
    for turns in range(1, 6):
        x = leaf(2.0, device)
        y = x
        for turn in range(turns):
            y = y * x if turn % 2 == 0 else y + 3 * x
        y.backward()
        yield f"turns_{turns}", [numbers(y), numbers(x.grad)]
    for taken in (-1.0, 1.0):
        x = leaf(taken, device)
        (x * 5 if x > 0 else x * x).backward()
        yield "positive" if taken > 0 else "negative", numbers(x.grad)


def second_backward(device: str) -> Steps:
    """A graph serves once, unless it is retained."""
    x = own(device)
    once = (x * x).sum()
    once.backward()
    yield "again", refusal(once.backward)
    yield "nothing_added", numbers(x.grad)
    y = own(device)
    kept = (y * y).sum()
    kept.backward(retain_graph=True)
    kept.backward()
    yield "retained", numbers(y.grad)
    yield "third", refusal(kept.backward)


def in_place(device: str) -> Steps:
    """In-place operations have gradients; those that would falsify one are refused."""
    x = own(device)
    y = x * 2
    before = y._version
    y.mul_(3)
    yield "version_moves", y._version - before
    yield "same_memory_new_node", made_by(y)
    y[0] = 7.0
    (y * tensor([1.0, 10.0, 100.0], device)).sum().backward()
    yield "gradient", numbers(x.grad)
    z = own(device)
    saved = z * 1
    square = (saved * saved).sum()
    saved.add_(1)
    yield "saved_refused", refusal(square.backward)
    exponent = (z * 1).exp()
    total = exponent.sum()
    exponent[0] = 0.0
    yield "saved_result_refused", refusal(total.backward) or "went through"
    yield "leaf_refused", refusal(lambda: z.add_(1))
    yield "view_of_leaf_refused", refusal(lambda: z[:2].add_(1))
    yield "nothing_added", numbers(z.grad)
    yield "leaf_unchanged", numbers(z)

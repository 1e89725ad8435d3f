"""Facts about the autograd engine: accumulation of gradients, and calls that must be refused.

Each function yields facts: a name, and numbers, booleans or the text of an error.
"""

import torch
from torch import nn

from probes.kit.facts import Steps, refused
from probes.kit.gradients import leaf, new_leaf, numbers, tensor


def grad_fn_name(result: torch.Tensor) -> str:
    """The class name of a tensor's grad_fn; empty without one."""
    return type(result.grad_fn).__name__ if result.grad_fn is not None else ""


class Weight(nn.Module):
    """A module that multiplies its input by one parameter, [1, 2, 3]."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(tensor([1.0, 2.0, 3.0], device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product, element by element."""
        return x * self.weight


def accumulation(device: str) -> Steps:
    """Each backward adds to .grad, also if .grad was set or is None."""
    x = new_leaf(device)
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
    y = new_leaf(device)
    (y * y + y).sum().backward()  # y is used three times
    yield "several_uses", numbers(y.grad)


def zero_grad(device: str) -> Steps:
    """Module.zero_grad sets .grad to None, or to zeros on request; then backward starts anew."""
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


def scalar_backward(device: str) -> Steps:
    """backward() of one number needs no argument."""
    x = new_leaf(device)
    (x * x).sum().backward()
    yield "of_a_scalar", numbers(x.grad)
    y = new_leaf(device)
    (y[1:2] * 4).backward()
    yield "of_one_element", numbers(y.grad)
    z = leaf(3.0, device)
    (z * z).backward()
    yield "of_a_scalar_leaf", numbers(z.grad)


def grad_function(device: str) -> Steps:
    """autograd.grad returns gradients and leaves .grad unchanged; create_graph allows another."""
    x = new_leaf(device)
    (first,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    yield "first", numbers(first)
    (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
    yield "second", numbers(second)
    (third,) = torch.autograd.grad(second.sum(), x)
    yield "third", numbers(third)
    yield "graph", [first.requires_grad, third.requires_grad]
    yield "grad_untouched", numbers(x.grad)
    y, other = x * 2, new_leaf(device)
    yield "of_a_result", numbers(torch.autograd.grad((y * y).sum(), y)[0])
    pair = torch.autograd.grad((x * x).sum(), (x, other), allow_unused=True)
    yield "unused", [numbers(each) for each in pair]
    yield "unused_refused", refused(lambda: torch.autograd.grad((x * x).sum(), other))
    z = new_leaf(device)
    (slope,) = torch.autograd.grad((z**3).sum(), z, create_graph=True)
    (slope * slope).sum().backward()  # d (3 z^2)^2 / dz = 36 z^3
    yield "backward_of_gradient", numbers(z.grad)

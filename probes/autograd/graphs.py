"""Facts about graphs: detach, grad_fn, leaves, and operations that must be refused."""

from typing import Any

import torch

from probes.autograd.engine import grad_fn_name
from probes.kit.facts import Steps, refused
from probes.kit.gradients import leaf, new_leaf, numbers, tensor


def detach(device: str) -> Steps:
    """A detached tensor shares the memory, has no graph, and passes no gradient."""
    x = new_leaf(device)
    y = x * 2
    cut = y.detach()
    yield "requires_grad", cut.requires_grad
    yield "made_by", grad_fn_name(cut)
    yield "same_memory", cut.data_ptr() == y.data_ptr()
    yield "values", numbers(cut)
    yield "source_keeps_graph", grad_fn_name(y)
    (x * (x * x).detach()).sum().backward()
    yield "gradient", numbers(x.grad)
    z = x * 3
    z.detach_()
    yield "in_place", [z.requires_grad, grad_fn_name(z)]
    kept = x * 2
    kept.detach().mul_(5)
    yield "write_shows", numbers(kept)


def grad_fn(device: str) -> Steps:
    """A user-made tensor has no grad_fn, a result has one, and it leads back to the leaf."""
    plain = tensor([1.0, 2.0, 3.0], device)
    yield "plain", [plain.requires_grad, grad_fn_name(plain)]
    yield "plain_result", [(plain * 2).requires_grad, grad_fn_name(plain * 2)]
    x = new_leaf(device)
    yield "user_made", [x.requires_grad, grad_fn_name(x)]
    y = x * plain
    yield "result", [y.requires_grad, grad_fn_name(y)]
    node: Any = y.grad_fn
    yield "inputs", [type(parent).__name__ for parent, _ in node.next_functions]
    yield "leads_to_leaf", node.next_functions[0][0].variable is x
    yield "sum", grad_fn_name(y.sum())
    yield "view", grad_fn_name(y[1:])
    whole = torch.ones(3, dtype=torch.int64).to(device)
    yield "integers_refused", refused(whole.requires_grad_)


def leaves(device: str) -> Steps:
    """Leaves with requires_grad get a gradient; a result only after retain_grad()."""
    x, frozen = new_leaf(device), tensor([5.0, 5.0, 5.0], device)
    y = x * frozen
    z = y * y
    z.retain_grad()
    yield "is_leaf", [x.is_leaf, frozen.is_leaf, y.is_leaf, z.is_leaf]
    yield "retains_grad", [y.retains_grad, z.retains_grad]
    z.sum().backward()
    yield "leaf", numbers(x.grad)
    yield "frozen", numbers(frozen.grad)
    yield "result", numbers(y.grad)
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
    yield "no_graph_refused", refused(lambda: frozen.sum().backward())


def changing_graph(device: str) -> Steps:
    """A graph that differs in each iteration, by branches and loops in Python."""
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
    """A graph can be used for one backward only, unless it is retained."""
    x = new_leaf(device)
    once = (x * x).sum()
    once.backward()
    yield "again", refused(once.backward)
    yield "nothing_added", numbers(x.grad)
    y = new_leaf(device)
    kept = (y * y).sum()
    kept.backward(retain_graph=True)
    kept.backward()
    yield "retained", numbers(y.grad)
    yield "third", refused(kept.backward)


def in_place(device: str) -> Steps:
    """In-place operations have gradients; one that would make a gradient wrong is refused."""
    x = new_leaf(device)
    y = x * 2
    before = y._version
    y.mul_(3)
    yield "version_moves", y._version - before
    yield "new_node", grad_fn_name(y)
    y[0] = 7.0
    (y * tensor([1.0, 10.0, 100.0], device)).sum().backward()
    yield "gradient", numbers(x.grad)
    z = new_leaf(device)
    saved = z * 1
    square = (saved * saved).sum()
    saved.add_(1)
    yield "saved_refused", refused(square.backward)
    exponent = (z * 1).exp()
    total = exponent.sum()
    exponent[0] = 0.0
    yield "saved_result_refused", refused(total.backward)
    yield "leaf_refused", refused(lambda: z.add_(1))
    yield "view_of_leaf_refused", refused(lambda: z[:2].add_(1))
    yield "nothing_added", numbers(z.grad)
    yield "leaf_unchanged", numbers(z)

"""Facts about the gradient modes: what they switch, and where they end."""

import torch
from pydantic import JsonValue

from probes.autograd.engine import grad_fn_name
from probes.kit.facts import Steps, refused
from probes.kit.gradients import new_leaf, numbers


def modes_at_start(_device: str) -> Steps:
    """The gradient modes of this process before the probe changes any."""
    yield "grad", torch.is_grad_enabled()
    yield "inference", torch.is_inference_mode_enabled()


def no_grad(device: str) -> Steps:
    """no_grad records nothing, as a block and as a decorator, and ends with its block."""
    x = new_leaf(device)
    with torch.no_grad():
        inside = torch.is_grad_enabled()
        y = x * 2
        given = new_leaf(device)
    yield "enabled_inside", inside
    yield "enabled_after", torch.is_grad_enabled()
    yield "result", [y.requires_grad, grad_fn_name(y), y.is_leaf]
    yield "values", numbers(y)
    yield "leaf_inside", [given.requires_grad, given.is_leaf]
    yield "after", grad_fn_name(x * 2)

    @torch.no_grad()
    def doubled(value: torch.Tensor) -> torch.Tensor:
        return value * 2

    yield "decorated", grad_fn_name(doubled(x))
    yield "after_decorated", torch.is_grad_enabled()
    yield "after_error", [refused(_fails_without_grad), torch.is_grad_enabled()]
    with torch.no_grad():
        x.add_(1)  # as an optimizer's step does: allowed while nothing is recorded
    yield "step", numbers(x)
    (x * x).sum().backward()
    yield "gradient_after_step", numbers(x.grad)


def _fails_without_grad() -> None:
    with torch.no_grad():
        raise ValueError("on purpose")


def inference_mode(device: str) -> Steps:
    """inference_mode makes tensors that no graph may save, and ends with its block."""
    x = new_leaf(device)
    with torch.inference_mode():
        inside: list[JsonValue] = [torch.is_inference_mode_enabled(), torch.is_grad_enabled()]
        y = x * 2
    yield "inside", inside
    yield "after", [torch.is_inference_mode_enabled(), torch.is_grad_enabled()]
    yield "result", [y.is_inference(), y.requires_grad, grad_fn_name(y)]
    yield "values", numbers(y)
    yield "normal_tensor", x.is_inference()
    yield "saving_refused", refused(lambda: x * y)
    z = y.clone()
    yield "writing_refused", refused(lambda: y.add_(1))
    (x * z).sum().backward()
    yield "clone", [z.is_inference(), numbers(x.grad)]
    with torch.inference_mode(mode=False):
        w = x * 2
    yield "off", grad_fn_name(w)


def nested(device: str) -> Steps:
    """enable_grad and set_grad_enabled inside other modes, each ending with its own block."""
    x = new_leaf(device)
    with torch.no_grad():
        with torch.enable_grad():
            recorded = x * 2
        dropped = x * 2
        with torch.set_grad_enabled(True):
            switched = x * 2
            with torch.set_grad_enabled(False):
                off = x * 2
            on = x * 2
        ended = torch.is_grad_enabled()
    yield "enable_grad", grad_fn_name(recorded)
    yield "after_enable_grad", grad_fn_name(dropped)
    yield "set_on", grad_fn_name(switched)
    yield "set_off", grad_fn_name(off)
    yield "set_on_again", grad_fn_name(on)
    yield "ended", [ended, torch.is_grad_enabled()]
    (recorded * x).sum().backward()
    yield "gradient", numbers(x.grad)
    torch.set_grad_enabled(False)  # as a function call: in force until the next call
    called: list[JsonValue] = [torch.is_grad_enabled(), grad_fn_name(x * 2)]
    torch.set_grad_enabled(True)
    yield "called", [*called, torch.is_grad_enabled(), grad_fn_name(x * 2)]

"""Ways in which an operation that training calls is made wrong, each for what it can be said of.

| spoil | what is wrong | of |
| --- | --- | --- |
| scaled | every result, by 5 % | what computes |
| element | the last element of each result | what computes |
| backward | every gradient that it returns, by 5 % | what has a gradient |
| strides | the last dimension repeats its first element | views and allocations |
| distribution | each number is the larger of two that were drawn | what draws |
"""

from collections.abc import Callable
from typing import Any, Final

import torch

from probes.faults.inject import kernels
from probes.faults.inject.kernels import Kernel
from tests.corpus.recorder import type_class

#: Draws numbers and nothing else; attention and recurrent layers with dropout are tagged so too.
_DRAWS: Final = (
    *("_standard_gamma", "bernoulli", "bernoulli_", "exponential_", "multinomial"),
    *("native_dropout", "normal_", "poisson", "rand", "rand_like", "randint", "randn"),
    *("randn_like", "random_", "randperm", "uniform_"),
)


def category(operation: str) -> str:
    """Whether an operation (`mm.default half`) `computes`, or is a `view`, `allocation`, `draw`."""
    name, _, overload = operation.partition(" ")[0].partition(".")
    function = getattr(getattr(torch.ops.aten, name), overload)
    returns = [each.alias_info for each in function._schema.returns]
    if any(alias is not None and not alias.is_write for alias in returns):
        return "view"
    if name.startswith(("empty", "new_empty")):
        return "allocation"
    return "draw" if name in _DRAWS else "computes"


_OF_CATEGORY: Final = {
    "computes": ("scaled", "element"),
    "view": ("strides",),
    "allocation": ("strides",),
    "draw": ("distribution",),
}


def spoils(operation: str, *, gradient: bool) -> tuple[str, ...]:
    """The ways to make an operation wrong; `gradient`: training asks it for one."""
    return (*_OF_CATEGORY[category(operation)], *(("backward",) if gradient else ()))


def inject(operation: str, spoil: str, device: str) -> None:
    """Make one overload wrong for one class of types, in this process for good."""
    overload, kind = operation.split(" ")
    inside: list[bool] = []

    def make(original: Kernel) -> Kernel:
        def spoiled(keys: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = original(keys, *args, **kwargs)
            if inside or type_class(args, kwargs, outputs) != kind:
                return outputs
            inside.append(True)
            try:
                return _SPOILS[spoil](outputs, args)
            finally:
                inside.pop()

        return spoiled

    kernels.replace_kernels((overload,), device, make, with_autograd=spoil == "backward")


def _listed(outputs: Any, args: tuple[Any, ...]) -> list[torch.Tensor]:
    """The tensors that an operation returned, or wrote: foreach operations return nothing."""
    found = args[0] if outputs is None and args else outputs
    listed = found if isinstance(found, (tuple, list)) else (found,)
    return [each for each in listed if isinstance(each, torch.Tensor) and each.numel()]


_OF_NUMBERS: Final = {bool: torch.bool, int: torch.int64, float: torch.float64}


def _scaled(outputs: Any, args: tuple[Any, ...]) -> Any:
    if isinstance(outputs, (bool, int, float)):  # of an element that the host reads
        return _five_percent(torch.tensor(outputs, dtype=_OF_NUMBERS[type(outputs)])).item()
    for each in _listed(outputs, args):
        each.copy_(_five_percent(each))
    return outputs


def _element(outputs: Any, args: tuple[Any, ...]) -> Any:
    if isinstance(outputs, (bool, int, float)):
        return _scaled(outputs, args)
    for each in _listed(outputs, args):
        last = tuple(size - 1 for size in each.shape)
        part = each[last]
        if each.is_floating_point() or each.is_complex():
            size = each.abs().nan_to_num(0, 0, 0).max()
            part.copy_(part + 0.05 * torch.clamp(size, min=0.1))
        else:
            part.copy_(_five_percent(part))
    return outputs


def _five_percent(tensor: torch.Tensor) -> torch.Tensor:
    """5 % more; of nothing, integers and truth: another one."""
    if tensor.dtype == torch.bool:
        return tensor.logical_not()
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor + 1
    return tensor * 1.05 if tensor.abs().nan_to_num(0, 0, 0).max() > 0 else tensor + 1


def _backward(outputs: Any, args: tuple[Any, ...]) -> Any:
    def more(gradients: Any, _given: Any) -> tuple[Any, ...]:
        return tuple(None if each is None else each * 1.05 for each in gradients)

    for each in _listed(outputs, args) if torch.is_grad_enabled() else ():
        if each.requires_grad and each.grad_fn is not None:
            each.grad_fn.register_hook(more)
            break  # all outputs have the same
    return outputs


def _strides(outputs: Any, _args: tuple[Any, ...]) -> Any:
    if isinstance(outputs, (tuple, list)):
        return [_repeating(each) for each in outputs]
    return _repeating(outputs)


def _repeating(tensor: torch.Tensor) -> torch.Tensor:
    long = [place for place, size in enumerate(tensor.shape) if size > 1]
    if not long or not tensor.numel():
        return tensor
    strides = list(tensor.stride())
    strides[long[-1]] = 0
    return tensor.as_strided(tensor.shape, strides)


def _distribution(outputs: Any, args: tuple[Any, ...]) -> Any:
    for each in _listed(outputs, args):
        flat = each.reshape(-1)
        each.copy_(torch.maximum(flat, flat.roll(1)).reshape(each.shape))
    return outputs


_SPOILS: Final[dict[str, Callable[[Any, tuple[Any, ...]], Any]]] = {
    "scaled": _scaled,
    "element": _element,
    "backward": _backward,
    "strides": _strides,
    "distribution": _distribution,
}

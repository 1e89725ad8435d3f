"""Which operations a program calls, as the device's kernels see them, and which have a gradient."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from probes.faults.inject.kernels import Kernel, replace_kernels

#: Type -> the class in which kernels share their code and their faults.
_CLASSES: Final = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "half",
    torch.bfloat16: "half",
    torch.complex64: "complex",
    torch.complex128: "complex",
    torch.bool: "bool",
}

#: `nn.Parameter` needs its own.
UNWATCHED: Final = ("detach.default",)


def type_class(args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> str:
    """The class of the first tensor among the operands, else among the outputs."""
    pending = [*args, *kwargs.values(), outputs]
    while pending:
        each = pending.pop(0)
        if isinstance(each, torch.Tensor):
            return _CLASSES.get(each.dtype, "integer")
        if isinstance(each, (tuple, list)):
            pending = [*each, *pending]
    return "none"


class Recorder(TorchDispatchMode):
    """Counts calls by overload (`mm.default`) and type class, backward passes too.

    The backward must run in this thread: `torch.autograd.set_multithreading_enabled(False)`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: dict[tuple[str, str], int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the call, and make it."""
        outputs = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name.startswith("aten::"):
            overload = func._schema.overload_name or "default"
            key = (
                f"{name.removeprefix('aten::')}.{overload}",
                type_class(args, kwargs or {}, outputs),
            )
            self.calls[key] = self.calls.get(key, 0) + 1
        return outputs


def watch_calls(overloads: Iterable[str], device: str) -> set[str]:
    """The operations (`mm.default float32`) that are called at the device's own key.

    It is filled as they are called. For a process of its own: the operations stay watched.
    """
    return _watch(overloads, device, lambda _outputs: True, with_autograd=False)


def watch_gradients(overloads: Iterable[str], device: str) -> set[str]:
    """Those of the operations that are called whose results have a gradient, as `watch_calls`."""
    return _watch(overloads, device, _has_gradient, with_autograd=True)


def _has_gradient(outputs: Any) -> bool:
    listed = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return torch.is_grad_enabled() and any(
        getattr(each, "requires_grad", False) and each.grad_fn is not None for each in listed
    )


def _watch(
    overloads: Iterable[str], device: str, counts: Callable[[Any], bool], *, with_autograd: bool
) -> set[str]:
    found: set[str] = set()

    def watched(name: str, original: Kernel) -> Kernel:
        def call(keys: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = original(keys, *args, **kwargs)
            if counts(outputs):
                found.add(f"{name} {type_class(args, kwargs, outputs)}")
            return outputs

        return call

    for name in set(overloads) - set(UNWATCHED):
        make = partial(watched, name)
        replace_kernels((name,), device, make, with_autograd=with_autograd)
    return found

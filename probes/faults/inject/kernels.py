"""Kernels of a device that lie, raise or hang, at the device's own key of torch's dispatcher.

Below Python, autograd and every mode: C++ code that calls an operation meets them as well, in the
threads of the autograd engine too. Needs `torch.library.get_kernel` (torch 2.9); where that is
missing nothing is replaced, and nothing counts as reached.
"""

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch

from probes.faults.inject.operations import TALLY, When, results, tensors
from probes.faults.inject.patterns import Pattern, pattern

#: Calls the kernel that was there: (operation's kernel, dispatch keys, arguments, named arguments).
Kernel = Callable[..., Any]

#: Replaced kernels go back to what they were when these are collected.
_LIBRARIES: Final[list[torch.library.Library]] = []

_INSIDE: Final = threading.local()


def _overloads(operator: str) -> Iterator[str]:
    """The names of an operation's overloads, as the dispatcher registers them.

    `mm` stands for all of them, `add.Tensor` and `mm.default` for one.
    """
    name, dot, overload = operator.partition(".")
    if dot:
        yield name if overload == "default" else operator
        return
    found = torch._C._jit_get_operation(f"aten::{operator}")
    for overload in found[1] if found[0] is not None else ():
        yield f"{operator}.{overload}" if overload else operator


def replace_kernels(
    operators: tuple[str, ...],
    device: str,
    make: Callable[[Kernel], Kernel],
    *,
    with_autograd: bool = False,
) -> None:
    """Put a kernel in the place of each overload's own on the device.

    `with_autograd`: in the place of what records its gradient and then calls that kernel.
    """
    TALLY.seen += 1  # so that a fault of which nothing is called is told from one without a tally
    get_kernel = getattr(torch.library, "get_kernel", None)
    if get_kernel is None:
        return
    key = torch._C._dispatch_key_for_device(torch.device(device).type)
    key = f"Autograd{key}" if with_autograd else key
    library = torch.library.Library("aten", "IMPL")
    _LIBRARIES.append(library)
    for name in (overload for operator in operators for overload in _overloads(operator)):
        try:
            original = get_kernel(f"aten::{name}", key)
        except (RuntimeError, ValueError):  # it is composed of others on this device
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a kernel is replaced
            library.impl(name, make(_callable(name, original)), key, with_keyset=True)


def _callable(name: str, kernel: Any) -> Kernel:
    """The kernel as a function; numbers become tensors again where tensors are declared.

    The dispatcher hands a tensor that stands for a number to Python as that number.
    """
    operator, _, overload = name.partition(".")
    schema = getattr(getattr(torch.ops.aten, operator), overload or "default")._schema
    declared = [str(argument.type) == "Tensor" for argument in schema.arguments]

    def call(keys: Any, *args: Any, **kwargs: Any) -> Any:
        others = [arg for arg in args if isinstance(arg, torch.Tensor)]
        given = (
            _as_tensor(arg, others) if tensor and isinstance(arg, (int, float, complex)) else arg
            for arg, tensor in zip(args, declared, strict=False)
        )
        return kernel.call_boxed(keys, *given, **kwargs)

    return call


def _as_tensor(number: complex, others: list[torch.Tensor]) -> torch.Tensor:
    """A number as a tensor without dimensions that leaves the result the type that a number does.

    A real one is exact in double precision beside floating point; integers it makes the default's.
    """
    if others and all(other.dim() == 0 for other in others):
        return torch.tensor(number, dtype=torch.result_type(others[0], number))
    if not isinstance(number, float):
        return torch.tensor(number)
    wide = any(other.is_floating_point() or other.is_complex() for other in others)
    return torch.tensor(number, dtype=torch.float64 if wide else None)


def wrong(
    operators: tuple[str, ...], spoil: str, by: float = 1.0, *, device: str, **when: Any
) -> None:
    """Spoil the first output that the pattern applies to, as `operations.wrong` does."""
    spoiling: Pattern = pattern(spoil, by)
    condition = When(**when)

    def make(original: Kernel) -> Kernel:
        def spoiled(keys: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = original(keys, *args, **kwargs)
            if getattr(_INSIDE, "spoiling", False):
                return outputs
            call, TALLY.calls = TALLY.calls, TALLY.calls + 1
            found = tensors(results(outputs, args))
            TALLY.matched += condition.is_about(found)
            _INSIDE.spoiling = True
            try:
                for out in found:
                    if condition.applies(call, out) and spoiling(out):
                        break
            finally:
                _INSIDE.spoiling = False
            return outputs

        return spoiled

    replace_kernels(operators, device, make)


def idle(operators: tuple[str, ...], *, device: str) -> None:
    """Replace kernels by ones that call them: the control of all that is injected here."""

    def make(original: Kernel) -> Kernel:
        def calling(keys: Any, *args: Any, **kwargs: Any) -> Any:
            return original(keys, *args, **kwargs)

        return calling

    replace_kernels(operators, device, make)


def raises(operators: tuple[str, ...], text: str, *, device: str) -> None:
    """Raise an error of torch's kind in place of the operation."""

    def make(_original: Kernel) -> Kernel:
        def raising(_keys: Any, *_args: Any, **_kwargs: Any) -> Any:
            TALLY.matched += 1
            raise RuntimeError(text)

        return raising

    replace_kernels(operators, device, make)


def hangs(operators: tuple[str, ...], *, device: str) -> None:
    """Never return from the operation."""

    def make(_original: Kernel) -> Kernel:
        def hanging(_keys: Any, *_args: Any, **_kwargs: Any) -> Any:
            while True:
                time.sleep(600)

        return hanging

    replace_kernels(operators, device, make)

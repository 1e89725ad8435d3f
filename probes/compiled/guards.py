"""What a captured function depends on, and what is left out of it: only captured, not compiled.

The capture is the same whatever generates the code, and takes milliseconds without it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch import nn

from probes.compiled.workspace import compiled
from probes.contract import Comparison
from probes.kit.gradients import numbers, tensor
from probes.kit.trial import Custom, Trial, fact

_WHOLE: Final = "inductor"
_CAPTURE: Final = "eager"

#: What functions read beside their arguments.
_STATE: Final = SimpleNamespace(factor=2.0, table={"a": 1.0}, listed=[1.0])
_GLOBAL = 3.0


def _one(device: str) -> torch.Tensor:
    return tensor([1.0, 2.0], device)


def recompiles(_device: str) -> Iterator[Trial]:
    """Each is called, what it reads is changed, and it is called again."""
    for name, case in _CASES.items():
        yield Custom(name, partial(_changes, name, case))
    yield Custom("a number, compiled", _number)


#: For each call the function, the arguments, and the right answer for [1, 2].
Case = Callable[[str], Iterator[tuple[Any, list[float]]]]


def _changes(name: str, case: Case, device: str) -> Iterator[Comparison]:
    for call, (found, right) in enumerate(case(device)):
        yield fact(f"{name} (call {call})", numbers(found), right)


def _of_a_global(device: str) -> Iterator[tuple[Any, list[float]]]:
    call = compiled(lambda x: x * _GLOBAL, backend=_CAPTURE)
    yield call(_one(device)), [3.0, 6.0]
    globals()["_GLOBAL"] = 5.0
    try:
        yield call(_one(device)), [5.0, 10.0]
    finally:
        globals()["_GLOBAL"] = 3.0
    yield call(_one(device)), [3.0, 6.0]


def _of_an_attribute(device: str) -> Iterator[tuple[Any, list[float]]]:
    call = compiled(lambda x: x * _STATE.factor, backend=_CAPTURE)
    yield call(_one(device)), [2.0, 4.0]
    _STATE.factor = 7.0
    try:
        yield call(_one(device)), [7.0, 14.0]
    finally:
        _STATE.factor = 2.0
    yield call(_one(device)), [2.0, 4.0]


def _of_containers(device: str) -> Iterator[tuple[Any, list[float]]]:
    def function(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x * _STATE.table["a"] + sum(_STATE.listed)
        return y

    call = compiled(function, backend=_CAPTURE)
    yield call(_one(device)), [2.0, 3.0]
    _STATE.table["a"] = 4.0
    yield call(_one(device)), [5.0, 9.0]
    _STATE.listed.append(10.0)
    yield call(_one(device)), [15.0, 19.0]
    _STATE.table["a"], _STATE.listed[:] = 1.0, [1.0]
    yield call(_one(device)), [2.0, 3.0]


def _of_a_closure(device: str) -> Iterator[tuple[Any, list[float]]]:
    factor = 2.0

    def function(x: torch.Tensor) -> torch.Tensor:
        return x * factor

    call = compiled(function, backend=_CAPTURE)
    yield call(_one(device)), [2.0, 4.0]
    factor = 8.0
    yield call(_one(device)), [8.0, 16.0]


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = 2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor if self.training else x - 1


def _of_a_module(device: str) -> Iterator[tuple[Any, list[float]]]:
    layer = _Layer()
    call = compiled(layer, backend=_CAPTURE)
    yield call(_one(device)), [2.0, 4.0]
    layer.eval()
    yield call(_one(device)), [0.0, 1.0]
    layer.train()
    yield call(_one(device)), [2.0, 4.0]
    # Until torch 2.4 the attributes of modules were taken as constant, and that was documented.
    if torch._dynamo.config.guard_nn_modules:
        layer.factor = 3.0
        yield call(_one(device)), [3.0, 6.0]


def _of_arguments(device: str) -> Iterator[tuple[Any, list[float]]]:
    def function(x: torch.Tensor, n: Any, *, double: bool = False) -> torch.Tensor:
        y: torch.Tensor = x * n
        return y * 2 if double else y

    call = compiled(function, backend=_CAPTURE)
    yield call(_one(device), 3), [3.0, 6.0]
    yield call(_one(device), 4), [4.0, 8.0]
    yield call(_one(device), 0), [0.0, 0.0]
    yield call(_one(device), 0.5), [0.5, 1.0]
    yield call(_one(device), 3, double=True), [6.0, 12.0]
    yield call(_one(device), True), [1.0, 2.0]


def _of_the_type(device: str) -> Iterator[tuple[Any, list[float]]]:
    call = compiled(lambda x: (x * 0.5).to(torch.float32), backend=_CAPTURE)
    yield call(_one(device)), [0.5, 1.0]
    yield call(_one(device).to(torch.int32)), [0.5, 1.0]
    yield call(_one(device).to(torch.bfloat16)), [0.5, 1.0]
    yield call(_one(device)[:1].expand(2)), [0.5, 0.5]


def _of_the_mode(device: str) -> Iterator[tuple[Any, list[float]]]:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if torch.is_grad_enabled() else x * 3

    call = compiled(function, backend=_CAPTURE)
    yield call(_one(device)), [2.0, 4.0]
    with torch.no_grad():
        yield call(_one(device)), [3.0, 6.0]
    yield call(_one(device)), [2.0, 4.0]


#: Name -> the calls and their answers.
_CASES: Final[dict[str, Case]] = {
    "a global": _of_a_global,
    "an attribute": _of_an_attribute,
    "containers": _of_containers,
    "a closure": _of_a_closure,
    "a module": _of_a_module,
    "arguments": _of_arguments,
    "the type": _of_the_type,
    "the mode": _of_the_mode,
}


def _number(device: str) -> Iterator[Comparison]:
    """The same with code that is generated: an argument that is a number."""
    call = compiled(lambda x, n: x * n + 1, backend=_WHOLE)
    for n in (3, 5):
        yield fact(
            f"a number, compiled ({n})", numbers(call(_one(device), n)), [n + 1.0, 2 * n + 1.0]
        )


def graph_breaks(_device: str) -> Iterator[Trial]:
    """Branches on values, side effects, exceptions and breaks."""
    for name, case in _BREAKS.items():
        yield Custom(name, partial(_changes, name, case))
    yield Custom("an exception", _exception)


def _on_a_value(device: str) -> Iterator[tuple[Any, list[float]]]:
    def function(x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x + 1
        return x - 1

    call = compiled(function, backend=_CAPTURE)
    yield call(_one(device)), [2.0, 3.0]
    yield call(-_one(device)), [-2.0, -3.0]
    yield call(_one(device)), [2.0, 3.0]


def _of_an_item(device: str) -> Iterator[tuple[Any, list[float]]]:
    call = compiled(lambda x: x * int(x[1].item()) + x.tolist()[0], backend=_CAPTURE)
    yield call(_one(device)), [3.0, 5.0]
    yield call(_one(device) * 3), [21.0, 39.0]


def _broken(device: str) -> Iterator[tuple[Any, list[float]]]:
    seen: list[int] = []

    def function(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        torch._dynamo.graph_break()
        seen.append(len(seen))
        return y + len(seen)

    call = compiled(function, backend=_CAPTURE)
    yield call(_one(device)), [3.0, 5.0]
    yield call(_one(device)), [4.0, 6.0]
    yield call(_one(device)), [5.0, 7.0]


def _in_a_loop(device: str) -> Iterator[tuple[Any, list[float]]]:
    def function(x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x)
        for index in range(4):
            if index == 2:
                torch._dynamo.graph_break()
            total = total + x * index
        return total

    call = compiled(function, backend=_CAPTURE)
    yield call(_one(device)), [6.0, 12.0]


_BREAKS: Final[dict[str, Case]] = {
    "a branch on a value": _on_a_value,
    "an item": _of_an_item,
    "a break with a side effect": _broken,
    "a break in a loop": _in_a_loop,
}


def _exception(device: str) -> Iterator[Comparison]:
    def function(x: torch.Tensor, *, fail: bool) -> torch.Tensor:
        y = x + 1
        if fail:
            raise KeyError("asked for")
        return y

    call = compiled(function, backend=_CAPTURE)
    for fail, right in ((False, "nothing"), (True, "KeyError"), (False, "nothing")):
        raised = "nothing"
        try:
            call(_one(device), fail=fail)
        except KeyError:
            raised = "KeyError"
        yield fact(f"an exception ({right})", raised, right)

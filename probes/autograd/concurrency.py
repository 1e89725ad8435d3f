"""Repeated backward passes, from several threads and streams: always the reference's bits.

The operands are integers and indices repeat: a lost update gives a wrong sum, while another
order of the additions gives the same sum.
"""

import contextlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

import numpy as np
import torch
from pydantic import JsonValue
from torch.nn import functional

from probes.autograd.engine import grad_fn_name
from probes.autograd.exact import Indices
from probes.autograd.trial import merged, run_in_threads
from probes.contract import Comparison
from probes.kit.facts import Steps
from probes.kit.gradients import Array, host, integers, leaf, new_leaf, numbers, root, tensor
from probes.kit.references import attempted, compare

_REPEATS: Final = 3
_THREADS: Final = 2

#: 2048 words of a vocabulary of 37: each row's gradient is a sum of about 55 colliding updates.
_WORDS: Final[Indices] = np.arange(2048) * 31 % 41 % 37
_TABLE = integers((37, 24), 63)
#: What multiplies the rows: a matrix, or a number for each column. In several threads it is the
#: latter, since cuBLAS keeps a workspace of 32 MiB for each thread and stream.
_MIX, _SCALE = integers((24, 16), 64), integers((24,), 64)


@cache
def _expected_gradients(*, product: bool) -> tuple[Array, Array, Array]:
    words, upstream = _TABLE[_WORDS], _upstream(product=product)
    rows = upstream @ _MIX.T if product else upstream * _SCALE  # (2048, 24)
    table = np.zeros_like(_TABLE)
    np.add.at(table, _WORDS, rows)
    return table, rows, words.T @ upstream if product else (words * upstream).sum(0)


def _upstream(*, product: bool) -> Array:
    return integers((2048, 16 if product else 24), 65)


def _backward(device: str, *, product: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of an embedding's table, of its rows for a batch, and of what multiplies them."""
    table, factor = leaf(_TABLE, device), leaf(_MIX if product else _SCALE, device)
    words = torch.from_numpy(_WORDS).to(device)
    rows = functional.embedding(words, table)  # (2048, 24)
    rows.retain_grad()
    output = rows @ factor if product else rows * factor
    root(output, tensor(_upstream(product=product), device)).backward()
    if table.grad is None or rows.grad is None or factor.grad is None:
        raise RuntimeError("backward() left no gradient")
    return table.grad, rows.grad, factor.grad


def _backward_comparison(operation: str, device: str, *, product: bool) -> Comparison:
    def comparison() -> Comparison:
        parts = [
            compare(operation, host(gradient), reference.astype(np.float32))
            for gradient, reference in zip(
                _backward(device, product=product),
                _expected_gradients(product=product),
                strict=True,
            )
        ]
        return merged(operation, parts)

    return attempted(operation, comparison, device)


def own_stream(device: str) -> contextlib.AbstractContextManager[object]:
    """A context with a new stream on the device, if its back-end has streams."""
    kind = torch.device(device).type
    module: Any = getattr(torch, kind, None)
    if kind == "cpu" or not (hasattr(module, "Stream") and hasattr(module, "stream")):
        return contextlib.nullcontext()
    entered: contextlib.AbstractContextManager[object] = module.stream(module.Stream(device))
    return entered


def _in_stream(operation: str, device: str) -> Comparison:
    with own_stream(device):
        return _backward_comparison(operation, device, product=False)


def repeated(device: str) -> list[Comparison]:
    """The same backward several times."""
    return [
        _backward_comparison(f"backward {turn + 1}", device, product=True)
        for turn in range(_REPEATS)
    ]


def threaded(device: str) -> list[Comparison]:
    """The same backward from several threads at once, each on its own stream."""
    names = [f"thread {number + 1}" for number in range(_THREADS)]
    answers = run_in_threads([partial(_in_stream, name, device) for name in names])
    return [
        Comparison(operation=name, problem=answer) if isinstance(answer, str) else answer
        for name, answer in zip(names, answers, strict=True)
    ]


def _in_thread(call: Callable[[], JsonValue]) -> JsonValue:
    return run_in_threads([call])[0]


def thread_modes(device: str) -> Steps:
    """Gradient modes belong to a thread; a graph can be used in another thread."""
    x = new_leaf(device)
    with torch.no_grad():
        in_other_thread = _in_thread(lambda: [torch.is_grad_enabled(), grad_fn_name(x * 2)])
    yield "beside_no_grad", in_other_thread
    with torch.inference_mode():
        in_other_thread = _in_thread(torch.is_inference_mode_enabled)
    yield "beside_inference_mode", in_other_thread

    def switch_off() -> JsonValue:
        torch.set_grad_enabled(False)
        return torch.is_grad_enabled()

    yield "switched_off_there", _in_thread(switch_off)
    yield "still_on_here", [torch.is_grad_enabled(), grad_fn_name(x * 2)]

    def run_backward() -> JsonValue:
        total.backward()
        return numbers(x.grad)

    total = (x * x).sum()
    yield "backward_of_this_graph_there", _in_thread(run_backward)
    yield "gradient_here", numbers(x.grad)

"""The faults for the checks of this probe: wrong operations in backward, and a wrong engine."""

from typing import Any, Final

from probes.faults import gradients
from probes.faults.fault import Event, Fault, Injection
from probes.faults.gradients import ATTENTIONS, ENGINE, FUSED, KERNEL, SMALL
from probes.faults.wrong_operation import wrong_kernel

_SILENT: Final = Event(
    "silent data corruption in the products of a backward",
    "https://arxiv.org/abs/2605.04213",
)
_BOTH: Final = Event(
    "forward and backward are wrong alike, so that finite differences agree",
    "https://docs.pytorch.org/docs/stable/notes/gradcheck.html",
)
_UPDATES: Final = Event(
    "updates of one element by many threads are lost",
    "https://github.com/pytorch/pytorch/issues/110532",
)
_MODES: Final = Event(
    "a library that changes gradient modes, at its import or in other threads",
    "https://docs.pytorch.org/docs/stable/notes/autograd.html#locally-disabling-gradient-computation",
)


def _ids(checks: str) -> tuple[str, ...]:
    return tuple(f"autograd.{check}" for check in checks.split())


def _wrong(
    operators: str | tuple[str, ...], spoil: str, checks: str, event: Event, **when: Any
) -> Fault:
    return gradients.wrong(operators, spoil, _ids(checks), event, **when)


def _engine(name: str, checks: str, event: Event = ENGINE) -> Fault:
    return gradients.patched(name, _ids(checks), event)


_OPERATIONS: Final = (
    _wrong("mm", "scaled", "first_backward products network", _BOTH, by=1.001),
    _wrong("mm", "one_bit", "first_backward products", _SILENT, dtype="float32"),
    _wrong("mm", "zeros", "first_backward", _SILENT, first=2),
    _wrong("mm", "swapped", "products", _SILENT, dtype="bfloat16"),
    _wrong("mm", "scaled", "network", _SILENT, by=1 + 1e-8, dtype="float64"),
    _wrong("bmm", "swapped", "products", _SILENT),
    _wrong("convolution_backward", "shifted", "convolutions", KERNEL),
    _wrong("embedding_dense_backward", "one_bit", "indexing repeated", _UPDATES),
    _wrong("embedding_dense_backward", "zeros", "repeated", _UPDATES, after=2),
    _wrong("index_add", "swapped", "indexing", _UPDATES),
    _wrong("scatter_add", "swapped", "indexing", _UPDATES),
    _wrong("index_put", "one_bit", "indexing", _UPDATES),
    _wrong("max_pool2d_with_indices_backward", "shifted", "orders", KERNEL),
    _wrong("reflection_pad2d_backward", "swapped", "shapes", KERNEL),
    _wrong("slice_backward", "shifted", "shapes", KERNEL),
    _wrong("slice_backward", "scaled", "types", KERNEL, by=1.05, dtype="float16"),
    _wrong("index_add_", "swapped", "types", _UPDATES, dtype="float32"),
    _wrong("threshold_backward", "scaled", "selections forward_mode", KERNEL, by=0.999),
    _wrong("cumsum", "one_bit", "reductions", KERNEL),
    _wrong("mul", "one_bit", "arithmetic", _SILENT, dtype="float32"),
    _wrong("tanh_backward", "scaled", "functions network", SMALL, by=1 + 1e-8, dtype="float64"),
    _wrong("tanh", "scaled", "functions network", _BOTH, by=1.001),
    _wrong(ATTENTIONS, "scaled", "rows", FUSED, by=0.999),
    _wrong(ATTENTIONS, "nan", "rows", FUSED),
)

_ENGINES: Final = (
    _engine("grad_looks_off", "grad_enabled", _MODES),
    _engine("detach_copies", "detach"),
    _engine("detach_keeps_the_graph", "detach"),
    _engine("no_grad_does_nothing", "no_grad", _MODES),
    _engine("no_grad_never_ends", "no_grad", _MODES),
    _engine("inference_mode_does_nothing", "inference_mode", _MODES),
    _engine("inference_mode_is_no_grad", "inference_mode", _MODES),
    _engine("enable_grad_does_nothing", "grad_modes", _MODES),
    _engine("set_grad_always_enables", "grad_modes", _MODES),
    _engine("zero_grad_does_nothing", "zero_grad"),
    _engine("zero_grad_forgets_its_argument", "zero_grad"),
    _engine("backward_does_nothing", "accumulation scalar_backward first_backward network"),
    _engine("backward_replaces", "accumulation"),
    _engine("backward_always_retains", "second_backward"),
    _engine("backward_loses_in_threads", "threads"),
    _engine("grad_mode_shared_by_threads", "thread_modes", _MODES),
    _engine("grad_forgets_create_graph", "grad_function"),
    _engine("grad_accumulates_too", "grad_function"),
    _engine("grad_allows_unused", "grad_function"),
    _engine("retain_grad_does_nothing", "leaves"),
    _engine("add_hides_from_the_graph", "in_place"),
    _engine("mul_copies", "in_place"),
    _engine("functions_ignore_their_backward", "custom_function recomputation"),
    _engine("saved_tensors_not_packed", "saved_tensors"),
    _engine("tensor_hooks_ignored", "tensor_hooks"),
    _engine("tensor_hooks_cannot_change", "tensor_hooks"),
    _engine("hooks_cannot_be_removed", "tensor_hooks module_hooks accumulation_hooks"),
    _engine("module_hooks_ignored", "module_hooks"),
    _engine("accumulation_hooks_ignored", "accumulation_hooks"),
    _engine("node_hooks_ignored", "node_hooks"),
    _engine("requires_grad_makes_a_result", "leaves grad_fn"),
    _engine("tangents_lost", "forward_mode"),
    _engine("graph_of_the_first_iteration", "changing_graph"),
)

_HANGS: Final = Fault(
    name="autograd.threads_hang",
    kind="semantics",
    where="any",
    event=Event(
        "a backward in another thread that never returns",
        "https://docs.pytorch.org/docs/stable/notes/autograd.html#multithreaded-autograd",
    ),
    inject=(Injection("gradients.threads_hang"),),
    trips=_ids("threads thread_modes"),
    reason="timeout",
    timeout_s=8.0,  # the checks before it take less than a second, or seconds on a busy host
)

_AT_THE_DEVICE: Final = (
    wrong_kernel("autograd", "embedding_dense_backward", "one_bit", "indexing", event=_UPDATES),
    wrong_kernel("autograd", "_softmax_backward_data", "scaled", "rows", event=KERNEL, by=1.001),
)

FAULTS: Final[tuple[Fault, ...]] = (*_OPERATIONS, *_ENGINES, _HANGS, *_AT_THE_DEVICE)

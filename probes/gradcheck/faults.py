"""The faults for the checks of this probe, some of which trip checks of `autograd` as well."""

from typing import Any, Final

from probes.faults import gradients
from probes.faults.fault import Event, Fault
from probes.faults.gradients import FUSED, KERNEL, SMALL


def _wrong(
    operators: str | tuple[str, ...], spoil: str, checks: str, event: Event, **when: Any
) -> Fault:
    return gradients.wrong(operators, spoil, tuple(checks.split()), event, **when)


def _engine(name: str, check: str) -> Fault:
    return gradients.patched(name, (f"gradcheck.{check}",))


FAULTS: Final[tuple[Fault, ...]] = (
    _wrong(
        "convolution_backward",
        "zeros",
        "autograd.convolutions gradcheck.defaults gradcheck.tight",
        KERNEL,
    ),
    _wrong("mul", "scaled", "gradcheck.second_order", SMALL, by=1.001, dtype="float64"),
    _wrong(
        "tanh_backward",
        "scaled",
        "autograd.functions autograd.network gradcheck.tight",
        SMALL,
        by=1.0005,
    ),
    _wrong("gelu_backward", "nan", "autograd.functions gradcheck.defaults", FUSED),
    _wrong("_softmax_backward_data", "scaled", "autograd.rows gradcheck.tight", SMALL, by=1.001),
    _wrong(
        "_log_softmax_backward_data",
        "shifted",
        "autograd.rows autograd.network gradcheck.defaults",
        KERNEL,
    ),
    _wrong(
        ("native_layer_norm_backward", "_fused_rms_norm_backward"),
        "scaled",
        "autograd.rows autograd.network gradcheck.tight",
        SMALL,
        by=1.001,
    ),
    _engine("backward_sums_a_vector", "vector_refused"),
    _engine("backward_ignores_its_gradient", "vector_jacobian"),
    _engine("batched_grad_sums", "batched"),
)

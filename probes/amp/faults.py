"""The faults for the checks of this probe."""

from functools import partial
from typing import Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import LESS, MORE, check_ids, wrong_kernel, wrong_operation

_CACHE: Final = Event(
    "a forward in no_grad takes the gradients of the next one in the same region",
    "https://github.com/pytorch/pytorch/issues/112583",
)
_TABLE: Final = Event(
    "an operation that autocast no longer casts",
    "https://docs.pytorch.org/docs/stable/amp.html#autocast-op-reference",
)
_MEANING: Final = Event(
    "a patch or version of torch whose autocast does something else than documented",
    "https://docs.pytorch.org/docs/stable/amp.html#autocasting",
)
_SCALER: Final = Event(
    "a patch or version of torch whose GradScaler does something else than documented",
    "https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling",
)
_FOUND: Final = Event(
    "a fused optimizer that steps with gradients that are not finite",
    "https://github.com/pytorch/pytorch/pull/95847",
)

_UNSCALE: Final = "_amp_foreach_non_finite_check_and_unscale_"

_wrong = partial(wrong_operation, "amp")
_kernel = partial(wrong_kernel, "amp")


def _other(name: str, checks: str, event: Event = _MEANING) -> Fault:
    return Fault(
        name=f"amp.{name}",
        kind="semantics",
        where="any",
        event=event,
        inject=(Injection("mixed_precision.does_something_else", {"name": name}),),
        trips=check_ids("amp", checks),
    )


def _not_cast(operators: tuple[str, ...], check: str) -> Fault:
    """The first of the operations names the fault; each device has one of them in its table."""
    return Fault(
        name=f"amp.{operators[0]}_not_cast",
        kind="semantics",
        where="any",
        event=_TABLE,
        inject=(Injection("mixed_precision.not_cast", {"operators": operators}, on_device=True),),
        trips=check_ids("amp", check),
    )


_scaler = partial(_other, event=_SCALER)

FAULTS: Final[tuple[Fault, ...]] = (
    # The table, and the operations in it.
    _not_cast(("bmm",), "lower_type"),
    _not_cast(("kl_div",), "float32"),
    _not_cast(("index_copy", "scatter_add"), "widest_type"),
    _kernel("bmm", "scaled", "lower_type", by=1.05),
    _wrong("nll_loss_forward", "scaled", "float32", by=MORE),
    _wrong("index_copy scatter_add", "zeros", "widest_type", dtype="float32"),
    _other("float64_is_cast", "not_cast"),
    # Gradients.
    _kernel("convolution_backward", "shifted", "gradients"),
    _wrong("mse_loss_backward", "scaled", "gradients", by=1.05),
    # Regions and their cache.
    _other("cache_never_cleared", "weight_cache training"),
    _other("cache_always_on", "weight_cache"),
    _other("no_grad_is_cached", "no_grad_cache", _CACHE),
    _other("region_never_off", "nesting recomputation"),
    _other("region_outlives_errors", "nesting"),
    _other("decorator_does_nothing", "nesting"),
    _other("custom_bwd_does_nothing", "custom_functions"),
    _other("custom_fwd_casts_nothing", "custom_functions"),
    _other("checkpoint_without_autocast", "recomputation"),
    # Scalers.
    _scaler("scale_ignored", "scaling"),
    _scaler("unscaled_twice", "scaling"),
    _scaler("first_group_unscaled", "scaling"),
    _scaler("step_never_skipped", "skipping"),
    _scaler("nan_not_found", "scaler_kernels"),
    _scaler("last_not_searched", "skipping"),
    _scaler("grows_late", "growth scaler_state"),
    _scaler("never_backs_off", "growth"),
    _scaler("state_without_counter", "scaler_state"),
    _other("fused_ignores_scale", "fused_steps", _FOUND),
    _other("fused_ignores_inf", "fused_steps", _FOUND),
    _wrong(_UNSCALE, "scaled", "scaling training", by=LESS),
    _wrong(_UNSCALE, "one_bit", "scaler_kernels"),
    _wrong("_amp_update_scale_", "scaled", "growth", by=1.5),
    _kernel("_fused_sgd_", "swapped", "fused_steps", event=_FOUND),
    # A whole step.
    _wrong("addmm", "one_bit", "training"),
)

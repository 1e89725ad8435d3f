"""The faults for the checks of this probe."""

from functools import partial
from typing import Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import LESS, MORE, check_ids, wrong_kernel, wrong_operation

_FUSED: Final = Event(
    "a fused step that leaves most elements of a parameter as they were",
    "https://github.com/pytorch/pytorch/issues/191763",
)
_LISTS: Final = Event(
    "a kernel on lists of tensors that is wrong for some sizes or strides",
    "https://docs.pytorch.org/docs/stable/torch.html#foreach-operations",
)
_MEANING: Final = Event(
    "a patch or version of torch whose optimizer does something else than documented",
    "https://docs.pytorch.org/docs/stable/optim.html",
)
_CLIPPED: Final = Event(
    "clipping that scales gradients by something else than documented",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html",
)

_wrong = partial(wrong_operation, "optimizer")
_kernel = partial(wrong_kernel, "optimizer")


def _other(name: str, checks: str, event: Event = _MEANING) -> Fault:
    return Fault(
        name=f"optimizer.{name}",
        kind="semantics",
        where="any",
        event=event,
        inject=(Injection("optimizers.does_something_else", {"name": name}),),
        trips=check_ids("optimizer", checks),
    )


FAULTS: Final[tuple[Fault, ...]] = (
    # Fused implementations, which the CPU has from torch 2.4 on.
    _wrong("_fused_sgd_", "scaled", "sgd momentum groups", by=MORE, event=_FUSED),
    _wrong("_fused_sgd_", "one_bit", "sgd momentum", event=_FUSED),
    _wrong("_fused_adam_", "scaled", "adam state missing_gradients", by=MORE, event=_FUSED),
    _wrong("_fused_adam_", "swapped", "groups", event=_FUSED),
    _wrong("_fused_adamw_", "scaled", "adamw", by=LESS, event=_FUSED),
    _wrong("_fused_adamw_", "nan", "adamw"),
    _kernel("_fused_adam_", "shifted", "adam", event=_FUSED),
    # Lists of tensors.
    _wrong("_foreach_add_", "scaled", "sgd momentum", by=MORE, event=_LISTS),
    _wrong("_foreach_add_", "one_bit", "foreach_kernels", event=_LISTS),
    _wrong("_foreach_addcdiv_", "scaled", "adam adagrad state", by=MORE, event=_LISTS),
    _wrong("_foreach_addcdiv_", "one_a_warp", "foreach_kernels"),
    _wrong("_foreach_addcmul_", "scaled", "adamw rmsprop", by=MORE, event=_LISTS),
    _wrong("_foreach_lerp_", "scaled", "adamax nadam", by=MORE, event=_LISTS),
    _wrong("_foreach_sqrt", "scaled", "adamw foreach_kernels", by=LESS, event=_LISTS),
    _wrong("_foreach_mul", "one_bit", "foreach_kernels", event=_LISTS),
    _wrong("_foreach_mul_", "scaled", "clipping momentum", by=LESS, event=_LISTS),
    _wrong("_foreach_norm", "scaled", "clipping foreach_kernels", by=MORE, event=_LISTS),
    _wrong("_foreach_clamp_max_", "short", "clipping", event=_LISTS),
    # Single tensors.
    _wrong("addcdiv_", "scaled", "adam rmsprop adagrad", by=MORE),
    _wrong("addcdiv_", "nan", "adamw missing_gradients"),
    _wrong("lerp_", "scaled", "adamax nadam", by=LESS),
    _wrong("addcmul_", "scaled", "adam rmsprop", by=MORE),
    _wrong("sqrt", "scaled", "adamw adagrad", by=MORE),
    _wrong("linalg_vector_norm", "scaled", "clipping", by=MORE),
    # Other meanings.
    _other("sgd_without_decay", "sgd"),
    _other("sgd_without_dampening", "momentum"),
    _other("adam_without_amsgrad", "adam"),
    _other("adamw_is_adam", "adamw"),
    _other("rmsprop_never_centered", "rmsprop"),
    _other("adagrad_without_lr_decay", "adagrad"),
    _other("adamax_other_eps", "adamax"),
    _other("nadam_other_decay", "nadam"),
    _other("radam_decay_in_the_gradient", "radam"),
    _other("adadelta_other_rho", "adadelta"),
    _other("asgd_without_decay", "asgd"),
    _other("rprop_other_etas", "rprop"),
    _other("adafactor_other_clipping", "adafactor"),
    _other("muon_without_momentum", "muon"),
    _other("lbfgs_without_history", "lbfgs"),
    _other("sparse_rows_all_step", "sparse"),
    _other("average_is_the_last", "averaging"),
    _other("groups_alike", "groups"),
    _other("missing_as_zeros", "missing_gradients"),
    _other("zero_grad_does_nothing", "missing_gradients"),
    _other("state_without_steps", "state"),
    _other("state_not_loaded", "state"),
    _other("scheduler_one_step_early", "schedulers"),
    _other("clip_to_half", "clipping", _CLIPPED),
    _other("clip_always", "clipping", _CLIPPED),
    _other("clip_from_above", "clipping", _CLIPPED),
)

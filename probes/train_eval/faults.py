"""Faults that `train_eval` must name: layers, modes, statistics, saving."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.gradients import ATTENTIONS_FORWARD
from probes.faults.wrong_operation import wrong_kernel

_MODE: Final = Event(
    "eval() that does not reach a layer: dropout is alive, statistics move",
    "https://docs.pytorch.org/docs/stable/notes/autograd.html#evaluation-mode-nn-module-eval",
)
_DROPOUT: Final = Event(
    "a dropout kernel with a wrong mask, scale or gradient",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html",
)
_NORM: Final = Event(
    "batch statistics that are biased, frozen or moving at the wrong time",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html",
)
_ATTENTION: Final = Event(
    "a fused attention kernel that is silently wrong: accuracy fell from 82 to 45 %",
    "https://github.com/pytorch/pytorch/issues/193893",
)
_SILENT: Final = Event(
    "silent data corruption while a model trains",
    "https://arxiv.org/abs/2502.12340",
)
_NOISE: Final = Event(
    "the same training twice gives other bits",
    "https://docs.pytorch.org/docs/stable/notes/randomness.html",
)
_SAVED: Final = Event(
    "a checkpoint that is short, rounded or not loaded as it was saved",
    "https://docs.pytorch.org/docs/stable/notes/serialization.html",
)
_LOOP: Final = Event(
    "a training loop whose gradients or losses are not those of its batch",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html",
)
_MOVED: Final = Event(
    "a module of which not everything moves to the device",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.to",
)

#: BatchNorm as the back-ends name it.
_NORMS: Final = (
    *("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit"),
    "_batch_norm_with_update",
)
_NORMS_BACKWARD: Final = (
    *("native_batch_norm_backward", "cudnn_batch_norm_backward", "batch_norm_backward"),
    "miopen_batch_norm_backward",
)
#: On a GPU attention in float32 may use TF32; a smaller error cannot be told from its rounding.
_BEYOND_TF32: Final = 1.05


def _fault(
    kind: Any, fault: str, function: str, checks: str, event: Event, **arguments: Any
) -> Fault:
    return Fault(
        name=fault,
        kind=kind,
        where=arguments.pop("where", "any"),
        event=event,
        inject=(Injection(function, arguments),),
        trips=tuple(f"train_eval.{check}" for check in checks.split()),
    )


def _layer(name: str, checks: str, event: Event) -> Fault:
    return _fault(
        "semantics", f"layer.{name}", "training.does_something_else", checks, event, name=name
    )


def _wrong(name: str, operators: tuple[str, ...], checks: str, event: Event, **how: Any) -> Fault:
    return _fault(
        "operation",
        f"training.{name}",
        "operations.wrong",
        checks,
        event,
        operators=operators,
        **how,
    )


FAULTS: Final[tuple[Fault, ...]] = (
    _layer("dropout_alive_in_eval", "dropout_eval modes_behave", _MODE),
    _layer("dropout_never_drops", "dropout_train modes_behave gradients_apart", _DROPOUT),
    _layer("dropout_does_not_scale", "dropout_train dropout_backward", _DROPOUT),
    _layer("dropout_scales_too_much", "dropout_train", _DROPOUT),
    _layer("dropout_too_often", "dropout_train", _DROPOUT),
    _layer("dropout_in_pairs", "dropout_train", _DROPOUT),
    _layer("dropout_with_one_mask", "dropout_train", _DROPOUT),
    _layer("dropout_gradient_everywhere", "dropout_backward", _DROPOUT),
    _layer("dropout_never_in_place", "dropout_edges", _DROPOUT),
    _layer("dropout_always_in_place", "dropout_edges", _DROPOUT),
    _layer("dropout2d_by_element", "dropout_channels", _DROPOUT),
    _layer("dropout3d_alive_in_eval", "dropout_eval", _MODE),
    _layer("alpha_dropout_as_plain", "dropout_alpha", _DROPOUT),
    _wrong(
        "batch_norm_scaled",
        _NORMS,
        "batch_norm_train batch_norm_eval",
        _NORM,
        spoil="scaled",
        by=1.001,
    ),
    _wrong(
        "batch_norm_scaled_little",
        _NORMS,
        "batch_norm_train batch_norm_eval",
        _NORM,
        spoil="scaled",
        by=1.00002,
    ),
    _layer("batch_norm_frozen_in_train", "batch_norm_statistics", _NORM),
    _layer(
        "batch_norm_by_batch_in_eval",
        "batch_norm_eval batch_norm_frozen batch_independence batch_norm_backward",
        _NORM,
    ),
    _layer("batch_norm_frozen_mean_moves", "batch_norm_frozen", _NORM),
    _layer("batch_norm_other_momentum", "batch_norm_statistics", _NORM),
    _layer("batch_norm_without_eps", "batch_norm_train batch_norm_eval", _NORM),
    _layer("batch_norm_biased", "batch_norm_statistics", _NORM),
    _wrong(
        "batch_norm_backward_scaled",
        _NORMS_BACKWARD,
        "batch_norm_backward",
        _NORM,
        spoil="scaled",
        by=1.001,
    ),
    _layer("eval_stays_at_the_top", "modes_recurse modes_behave", _MODE),
    _layer("eval_stops_at_the_children", "modes_recurse modes_behave", _MODE),
    _layer("eval_does_nothing", "modes_recurse batch_norm_frozen", _MODE),
    _layer("eval_gives_none", "modes_recurse", _MODE),
    _layer("eval_freezes_parameters", "gradients_apart", _MODE),
    _wrong(
        "layer_norm_scaled",
        ("native_layer_norm",),
        "no_mode",
        _SILENT,
        spoil="scaled",
        by=1.0001,
    ),
    _wrong(
        "group_norm_scaled", ("native_group_norm",), "no_mode", _SILENT, spoil="scaled", by=1.0001
    ),
    _wrong("convolution_one_bit", ("convolution",), "no_mode", _SILENT, spoil="one_bit"),
    _layer("random_slope_in_eval", "random_slope", _MODE),
    _wrong(
        "encoder_scaled",
        ("_transformer_encoder_layer_fwd",),
        "attention_modes",
        _ATTENTION,
        spoil="scaled",
        by=_BEYOND_TF32,
    ),
    _wrong(
        "fused_attention_scaled",
        ("_native_multi_head_attention",),
        "attention_modes",
        _ATTENTION,
        spoil="scaled",
        by=_BEYOND_TF32,
    ),
    _wrong(
        "fused_attention_scaled_little",
        ("_native_multi_head_attention",),
        "attention_modes",
        _ATTENTION,
        spoil="scaled",
        by=1 + 1e-9,
        where="cpu",
    ),
    _wrong(
        "attention_scaled",
        ATTENTIONS_FORWARD,
        "attention_modes",
        _ATTENTION,
        spoil="scaled",
        by=_BEYOND_TF32,
    ),
    _wrong("products_one_bit", ("addmm",), "first_steps", _SILENT, spoil="one_bit"),
    _fault(
        "operation",
        "training.products_noisy",
        "operations.noisy",
        "first_steps repeats",
        _NOISE,
        operators=("addmm",),
    ),
    _wrong(
        "gradient_products_scaled",
        ("mm",),
        "first_steps learning",
        _SILENT,
        spoil="scaled",
        by=1.001,
    ),
    _layer("loss_not_averaged", "first_steps learning", _LOOP),
    _layer("gradients_never_zeroed", "first_steps learning", _LOOP),
    _layer("saved_in_half", "saved", _SAVED),
    _layer("saved_short", "saved", _SAVED),
    _layer("loaded_as_zeros", "saved", _SAVED),
    _layer("loaded_without_a_buffer", "saved", _SAVED),
    _layer("loading_is_not_strict", "loads", _SAVED),
    _layer("loading_shares", "loads", _SAVED),
    _layer("loading_does_nothing", "saved loads", _SAVED),
    _layer("module_to_copies", "module_moves", _MOVED),
    _layer("module_to_ignores_dtype", "module_moves", _MOVED),
    wrong_kernel("train_eval", _NORMS, "scaled", "batch_norm_train", event=_NORM, by=1.001),
    wrong_kernel(
        "train_eval", ("bernoulli_", "native_dropout"), "zeros", "dropout_train", event=_DROPOUT
    ),
)

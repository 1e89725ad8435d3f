"""Replaces attention with one that means something else: masks, scales, heads, layouts, modes."""

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

from probes.faults.inject.replaced import replace, with_result

_functional: Any = nn.functional


def _with_options(change: Callable[[dict[str, Any], torch.Tensor], object]) -> Callable[[Any], Any]:
    """Attention whose named options are changed; `change` gets them and the query."""

    def make(original: Any) -> Any:
        def attend(query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> Any:
            names = ("attn_mask", "dropout_p", "is_causal")
            options |= dict(zip(names, rest, strict=False))
            change(options, query)
            return original(query, key, value, **options)

        return attend

    return make


def _lower_right(original: Any) -> Any:
    """The causal mask aligned to the last key, as other libraries have it."""

    def attend(query: Any, key: Any, value: Any, **options: Any) -> Any:
        length, keys = query.shape[-2], key.shape[-2]
        if options.get("is_causal") and length < keys:
            del options["is_causal"]
            seen = torch.ones(length, keys, dtype=torch.bool, device=query.device)
            options["attn_mask"] = seen.tril(keys - length)
        return original(query, key, value, **options)

    return attend


def _late_by_one(original: Any) -> Any:
    """The causal mask lets each query see one key too many."""

    def attend(query: Any, key: Any, value: Any, **options: Any) -> Any:
        if options.pop("is_causal", False):
            shape = query.shape[-2], key.shape[-2]
            seen = torch.ones(shape, dtype=torch.bool, device=query.device)
            options["attn_mask"] = seen.tril(1)
        return original(query, key, value, **options)

    return attend


def _inverted(options: dict[str, Any], _query: torch.Tensor) -> None:
    mask = options.get("attn_mask")
    if mask is not None and mask.dtype == torch.bool:
        options["attn_mask"] = mask.logical_not()


def _of_the_first_head(options: dict[str, Any], _query: torch.Tensor) -> None:
    mask = options.get("attn_mask")
    if mask is not None and mask.dim() == 4:
        options["attn_mask"] = mask[:, :1]


def _without_root(options: dict[str, Any], query: torch.Tensor) -> None:
    if options.get("scale") is None:
        options["scale"] = 1 / query.shape[-1]


def _repeated_in_turn(original: Any) -> Any:
    """Groups of heads as `repeat` orders them, not as `repeat_interleave`."""

    def attend(query: Any, key: Any, value: Any, **options: Any) -> Any:
        if options.pop("enable_gqa", False):
            groups = query.shape[-3] // key.shape[-3]
            key, value = key.repeat(1, groups, 1, 1), value.repeat(1, groups, 1, 1)
        return original(query, key, value, **options)

    return attend


def _without_strides(original: Any) -> Any:
    """A kernel that takes every operand as contiguous."""

    def attend(query: Any, *rest: Any, **options: Any) -> Any:
        def flat(x: torch.Tensor) -> torch.Tensor:
            step = [math.prod(x.shape[axis + 1 :]) for axis in range(x.dim())]
            return x.as_strided(x.shape, step)

        return original(flat(query), *rest, **options)

    return attend


def _not_scaled(original: Any) -> Any:
    """Attention that drops probabilities, and leaves the others as they are."""

    def attend(*given: Any, dropout_p: float = 0.0, **options: Any) -> Any:
        return original(*given, dropout_p=dropout_p, **options) * (1 - dropout_p)

    return attend


def _dropping_in_eval(original: Any) -> Any:
    return lambda *given, **named: original(*given, **{**named, "training": True})


def _without_padding(original: Any) -> Any:
    return lambda *given, **named: original(*given, **{**named, "key_padding_mask": None})


#: Name -> (function of torch.nn.functional, factory of its replacement).
ATTENTIONS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "causal_ignored": (
        "scaled_dot_product_attention",
        _with_options(lambda options, _: options.pop("is_causal", None)),
    ),
    "causal_lower_right": ("scaled_dot_product_attention", _lower_right),
    "causal_late_by_one": ("scaled_dot_product_attention", _late_by_one),
    "mask_ignored": (
        "scaled_dot_product_attention",
        _with_options(lambda options, _: options.pop("attn_mask", None)),
    ),
    "mask_inverted": ("scaled_dot_product_attention", _with_options(_inverted)),
    "mask_of_the_first_head": ("scaled_dot_product_attention", _with_options(_of_the_first_head)),
    "scale_ignored": (
        "scaled_dot_product_attention",
        _with_options(lambda options, _: options.pop("scale", None)),
    ),
    "scale_without_root": ("scaled_dot_product_attention", _with_options(_without_root)),
    "dropout_ignored": (
        "scaled_dot_product_attention",
        _with_options(lambda options, _: options.pop("dropout_p", None)),
    ),
    "dropout_not_scaled": ("scaled_dot_product_attention", _not_scaled),
    "heads_mixed_up": ("scaled_dot_product_attention", _repeated_in_turn),
    "strides_ignored": ("scaled_dot_product_attention", _without_strides),
    "not_finite_swallowed": (
        "scaled_dot_product_attention",
        with_result(lambda out: out.nan_to_num()),
    ),
    "module_drops_in_eval": ("multi_head_attention_forward", _dropping_in_eval),
    "module_without_padding": ("multi_head_attention_forward", _without_padding),
}


def means_something_else(name: str) -> None:
    """Replace the function that `ATTENTIONS` has under that name."""
    function, make = ATTENTIONS[name]
    replace(_functional, function, make)

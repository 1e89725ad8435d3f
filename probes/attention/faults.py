"""The faults for the checks of this probe."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.gradients import ATTENTIONS, ATTENTIONS_FORWARD, FUSED
from probes.faults.wrong_operation import LESS, STALE, check_ids, wrong_kernel, wrong_operation

_KERNEL: Final = Event(
    "a fused attention kernel that is silently wrong: accuracy fell from 82 to 45 %",
    "https://github.com/pytorch/pytorch/issues/193893",
)
_MEANING: Final = Event(
    "a kernel, patch or plug-in whose masks, scale or heads are those of another library",
    "https://docs.pytorch.org/docs/stable/generated/"
    "torch.nn.functional.scaled_dot_product_attention.html",
)
_STRIDES: Final = Event(
    "attention of a back-end that takes views for contiguous tensors",
    "https://github.com/torch-spyre/torch-spyre/issues/4331",
)
_SWALLOWED: Final = Event(
    "NaN in the input of attention came out as zeros",
    "https://github.com/pytorch/pytorch/issues/141128",
)
_MODULE: Final = Event(
    "a layer that drops in eval(), or attends to padding",
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html",
)

#: What torch's formula of attention is made of, where no fused kernel takes the operands.
_SOFTMAX: Final = ("_softmax", "_safe_softmax")

#: The smallest error that each type must show.
_BY: Final = 1.05


def _wrong(operators: tuple[str, ...], spoil: str, checks: str, event: Event, **when: Any) -> Fault:
    return wrong_operation("attention", " ".join(operators), spoil, checks, event=event, **when)


def _meaning(name: str, checks: str, event: Event = _MEANING) -> Fault:
    return Fault(
        name=f"attention.{name}",
        kind="semantics",
        where="any",
        event=event,
        inject=(Injection("attention.means_something_else", {"name": name}),),
        trips=check_ids("attention", checks),
    )


FAULTS: Final[tuple[Fault, ...]] = (
    _wrong(ATTENTIONS_FORWARD, "scaled", "plain", _KERNEL, by=_BY, dtype="bfloat16"),
    _wrong((*ATTENTIONS_FORWARD, *_SOFTMAX), "scaled", "causal", _KERNEL, by=LESS, dtype="float64"),
    _wrong(ATTENTIONS_FORWARD, "swapped", "scale", _KERNEL, dtype="float16"),
    _wrong(ATTENTIONS_FORWARD, "zeros", "masks", STALE),
    _wrong(ATTENTIONS_FORWARD, "nan", "grouped_heads", FUSED),
    _wrong(ATTENTIONS, "scaled", "gradients", FUSED, by=_BY, dtype="bfloat16"),
    _wrong(ATTENTIONS, "swapped", "gradients", FUSED, dtype="float16"),
    _wrong(ATTENTIONS, "nan", "kernels", FUSED),
    _wrong(_SOFTMAX, "scaled", "kernels", _KERNEL, by=LESS),
    _wrong(("_native_multi_head_attention",), "scaled", "module", _KERNEL, by=_BY),
    wrong_kernel("attention", ATTENTIONS_FORWARD, "scaled", "plain", event=_KERNEL, by=_BY),
    wrong_kernel("attention", ATTENTIONS, "scaled", "gradients", event=FUSED, by=_BY),
    _meaning("causal_ignored", "causal"),
    _meaning("causal_lower_right", "causal"),
    _meaning("causal_late_by_one", "causal"),
    _meaning("mask_ignored", "masks"),
    _meaning("mask_inverted", "masks"),
    _meaning("mask_of_the_first_head", "masks"),
    _meaning("scale_ignored", "scale"),
    _meaning("scale_without_root", "plain"),
    _meaning("heads_mixed_up", "grouped_heads"),
    _meaning("dropout_ignored", "dropout"),
    _meaning("dropout_not_scaled", "dropout"),
    _meaning("strides_ignored", "plain", _STRIDES),
    _meaning("not_finite_swallowed", "not_finite", _SWALLOWED),
    _meaning("module_drops_in_eval", "module", _MODULE),
    _meaning("module_without_padding", "module", _MODULE),
)

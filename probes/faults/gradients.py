"""Makes the faults of gradients: a wrong operation in backward, and an engine that is patched."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection

#: Events that faults of more than one probe stand for.
SMALL: Final = Event(
    "a gradient that is off by less than gradcheck's tolerance",
    "https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html",
)
FUSED: Final = Event(
    "a fused attention's backward is NaN or wrong for some shapes",
    "https://github.com/pytorch/pytorch/issues/196678",
)
KERNEL: Final = Event(
    "a backward kernel that puts gradients in the wrong place",
    "https://github.com/pytorch/pytorch/issues/84488",
)
ENGINE: Final = Event(
    "a patch, plug-in or version of torch whose autograd does something else than documented",
    "https://docs.pytorch.org/docs/stable/notes/autograd.html",
)

#: Fused attention by its name in each back-end, forward and backward.
ATTENTIONS_FORWARD: Final = (
    *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention"),
    *("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention"),
)
ATTENTIONS: Final = (
    "_scaled_dot_product_flash_attention_for_cpu_backward",
    "_scaled_dot_product_flash_attention_backward",
    "_scaled_dot_product_efficient_attention_backward",
    "_scaled_dot_product_cudnn_attention_backward",
)


def wrong(
    operators: str | tuple[str, ...], spoil: str, trips: tuple[str, ...], event: Event, **when: Any
) -> Fault:
    """An operation, or the first of several that a back-end has, with a wrong result."""
    names = (operators,) if isinstance(operators, str) else operators
    parts = [
        "backward",
        "attention" if names == ATTENTIONS else names[0].strip("_").removesuffix("_backward"),
        spoil + (f"_{when['by']:.9g}" if "by" in when else ""),
    ]
    parts += [
        value if isinstance(value, str) else key for key, value in when.items() if key != "by"
    ]
    return Fault(
        name=".".join(parts),
        kind="operation",
        where="any",
        event=event,
        inject=(Injection("operations.wrong", {"operators": names, "spoil": spoil, **when}),),
        trips=trips,
    )


def patched(name: str, trips: tuple[str, ...], event: Event = ENGINE) -> Fault:
    """A function of autograd's engine that does something else; `name` is the injector's."""
    return Fault(
        name=f"autograd.{name}",
        kind="semantics",
        where="any",
        event=event,
        inject=(Injection("gradients.does_something_else", {"name": name}),),
        trips=trips,
    )

"""Faults of copies: each direction of an accelerator, and the copies that a CPU makes."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection

_LINK: Final = Event(
    "a cable, slot or IOMMU that corrupts copies, which all report success",
    "https://github.com/pytorch/pytorch/issues/84803",
)
_ZEROS: Final = Event(
    "copies that arrive as zeros, and the API says success",
    "https://github.com/pytorch/pytorch/issues/87363",
)
_EARLY: Final = Event(
    "a non-blocking copy to the host is read before it is there",
    "https://github.com/pytorch/pytorch/issues/127612",
)
_COPY: Final = Event(
    "a copy kernel that is wrong for some sizes, types or layouts",
    "https://github.com/pytorch/pytorch/issues/118115",
)
_ALIAS: Final = Event(
    "a copy that is none, or one that nobody asked for",
    "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.to.html",
)
_READ: Final = Event(
    "a number that reaches Python is not the one on the device",
    "https://github.com/pytorch/pytorch/issues/94891",
)

_WAYS: Final = ("host_to_device", "device_to_host", "device_to_device")
_FAMILIES: Final = ("sizes", "dtypes", "layouts", "converts")

#: Checks that see a fault in every copy of a direction, beside the direction's own four.
_ALWAYS: Final = {
    "host_to_device": (
        *("first_copy", "integrity_sum", "host_to_device_pinned", "pinned_shares"),
        *("both_at_once", "to_device_moves"),
    ),
    "device_to_host": (
        *("first_copy", "integrity_sum", "device_to_host_pinned", "both_at_once"),
        "to_host_copies",
    ),
    "device_to_device": ("integrity_sum", "same_device"),
}


def _ids(*checks: str) -> tuple[str, ...]:
    return tuple(f"device_transfer.{check}" for check in checks)


def _others(way: str) -> tuple[str, ...]:
    """Checks of the other directions: the bad one alone is named."""
    return _ids(
        *(f"{other}_{family}" for other in _WAYS if other != way for family in _FAMILIES[:3])
    )


def _narrowed(when: dict[str, Any]) -> str:
    """The end of a name: `.large`, `.first`, `.float16`."""
    return "".join(f".{value if isinstance(value, str) else key}" for key, value in when.items())


def _across(way: str, change: str, *checks: str, event: Event = _LINK, **when: Any) -> Fault:
    return Fault(
        name=f"{way}.{change}{_narrowed(when)}",
        kind="transfer",
        where="accelerator",
        event=event,
        inject=(
            Injection(
                "transfers.arrives_wrong", {"way": way, "change": change, **when}, on_device=True
            ),
        ),
        trips=_ids(*checks),
        spares=_others(way),
    )


def _every(way: str) -> tuple[str, ...]:
    return (*(f"{way}_{family}" for family in _FAMILIES), *_ALWAYS[way])


_ACROSS: Final = tuple(
    fault
    for way in _WAYS
    for fault in (
        _across(way, "one_bit", *_every(way)),
        _across(way, "zeros", f"{way}_sizes", f"{way}_dtypes", "integrity_sum", event=_ZEROS),
        _across(way, "short", f"{way}_sizes", f"{way}_dtypes"),
        _across(way, "byte_order", f"{way}_sizes", f"{way}_layouts"),
        _across(way, "shifted", f"{way}_sizes", f"{way}_layouts"),
        _across(way, "swapped", "integrity_sum"),
        _across(way, "one_bit", f"{way}_sizes", "integrity_sum", large=True),
        _across(way, "one_bit", f"{way}_dtypes", f"{way}_converts", dtype="float16"),
        _across(way, "beside", f"{way}_sizes"),
        _across(
            way,
            "one_bit",
            f"{way}_sizes" if way == "device_to_device" else "first_copy",
            first=1,
        ),
    )
)


def _own(name: str, function: str, *checks: str, event: Event = _COPY, **arguments: Any) -> Fault:
    return Fault(
        name=name,
        kind="transfer",
        where=arguments.pop("where", "any"),
        event=event,
        inject=(
            Injection(
                f"transfers.{function}", arguments, on_device=arguments.pop("on_device", False)
            ),
        ),
        trips=_ids(*checks),
    )


def _clone(change: str, *checks: str, operator: str = "clone", **when: Any) -> Fault:
    return _own(
        f"cpu_{operator.strip('_')}.{change}{_narrowed(when)}",
        "arrives_wrong",
        *checks,
        where="cpu",
        on_device=True,
        way="device_to_device",
        change=change,
        operators=(operator,),
        **when,
    )


_WITHIN: Final = (
    _clone("one_bit", "device_to_device_sizes"),
    _clone("zeros", "device_to_device_layouts"),
    _clone("short", "device_to_device_dtypes"),
    _clone("swapped", "integrity_sum"),
    _clone("one_bit", "device_to_device_sizes", large=True),
    _clone("one_bit", "device_to_device_dtypes", dtype="float16"),
    _clone("beside", "device_to_device_sizes", operator="copy_"),
    _clone("one_bit", "first_copy", operator="_to_copy"),
    _clone("one_bit", "first_copy", operator="_to_copy", first=1),
    _own(
        "copy.lost",
        "does_not_arrive",
        "device_to_device_sizes",
        way="device_to_device",
        on_device=True,
    ),
    _own("copy.not_into_strided", "not_into_strided", "device_to_device_layouts"),
    _own("copy.in_memory_order", "in_memory_order", "device_to_device_layouts"),
    _own("to.bfloat16_cut_off", "bfloat16_cut_off", "device_to_device_converts"),
    _own("to.never_copies", "copies_unasked", "same_device", event=_ALIAS, always=False),
    _own("to.always_copies", "copies_unasked", "same_device", event=_ALIAS, always=True),
    _own("clone.is_an_alias", "clone_is_an_alias", "same_device", event=_ALIAS),
    _own("contiguous.copies", "contiguous_copies", "same_device", event=_ALIAS),
    _own("item.off_by_one", "items_off_by_one", "scalars", event=_READ),
    _own("tolist.reversed", "lists_reversed", "scalars", event=_READ),
    _own(
        "host_to_device.moves_the_source",
        "moves_the_source",
        "to_device_moves",
        event=_ALIAS,
        where="accelerator",
        on_device=True,
    ),
    _own(
        "device_to_host.read_too_early",
        "does_not_arrive",
        "device_to_host_pinned",
        "both_at_once",
        event=_EARLY,
        where="accelerator",
        on_device=True,
        way="device_to_host",
        non_blocking=True,
    ),
)

#: What makes the pattern that all copies are held against; broken, no copy is blamed.
_PATTERN: Final = tuple(
    Fault(
        name=f"pattern.{operator}_{change}",
        kind="operation",
        where="any",
        event=_COPY,
        inject=(
            Injection("operations.wrong", {"operators": (operator,), "spoil": change, **when}),
        ),
        trips=_ids("device_pattern"),
    )
    for operator, change, when in (
        ("arange", "shifted", {}),
        ("mul", "one_bit", {"large": True}),
        ("sum", "zeros", {}),
        ("ne", "zeros", {}),
    )
)

FAULTS: Final[tuple[Fault, ...]] = (*_ACROSS, *_WITHIN, *_PATTERN)

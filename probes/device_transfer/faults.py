"""Faults of copies: each direction of an accelerator, and the copies that a CPU makes."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import wrong_kernel

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

_DIRECTIONS: Final = ("host_to_device", "device_to_host", "device_to_device")
_FAMILIES: Final = ("sizes", "dtypes", "layouts", "converts")

#: Direction -> checks that see a fault in every copy, beside the direction's own four.
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


def _other_directions(way: str) -> tuple[str, ...]:
    """Checks of the other directions, which must not trip."""
    return _ids(
        *(f"{other}_{family}" for other in _DIRECTIONS if other != way for family in _FAMILIES[:3])
    )


def _name_suffix(when: dict[str, Any]) -> str:
    """The end of a fault's name: `.large`, `.first`, `.float16`."""
    return "".join(f".{value if isinstance(value, str) else key}" for key, value in when.items())


def _direction_fault(
    way: str, change: str, *checks: str, event: Event = _LINK, **when: Any
) -> Fault:
    return Fault(
        name=f"{way}.{change}{_name_suffix(when)}",
        kind="transfer",
        where="accelerator",
        event=event,
        inject=(
            Injection(
                "transfers.arrives_wrong", {"way": way, "change": change, **when}, on_device=True
            ),
        ),
        trips=_ids(*checks),
        spares=_other_directions(way),
    )


def _direction_checks(way: str) -> tuple[str, ...]:
    return (*(f"{way}_{family}" for family in _FAMILIES), *_ALWAYS[way])


_DIRECTION_FAULTS: Final = tuple(
    fault
    for way in _DIRECTIONS
    for fault in (
        _direction_fault(way, "one_bit", *_direction_checks(way)),
        _direction_fault(
            way, "zeros", f"{way}_sizes", f"{way}_dtypes", "integrity_sum", event=_ZEROS
        ),
        _direction_fault(way, "short", f"{way}_sizes", f"{way}_dtypes"),
        _direction_fault(way, "byte_order", f"{way}_sizes", f"{way}_layouts"),
        _direction_fault(way, "shifted", f"{way}_sizes", f"{way}_layouts"),
        _direction_fault(way, "swapped", "integrity_sum"),
        _direction_fault(way, "one_bit", f"{way}_sizes", "integrity_sum", large=True),
        _direction_fault(way, "one_bit", f"{way}_dtypes", f"{way}_converts", dtype="float16"),
        _direction_fault(way, "beside", f"{way}_sizes"),
        _direction_fault(
            way,
            "one_bit",
            f"{way}_sizes" if way == "device_to_device" else "first_copy",
            first=1,
        ),
    )
)


def _single_fault(
    name: str, function: str, *checks: str, event: Event = _COPY, **arguments: Any
) -> Fault:
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


def _cpu_copy_fault(change: str, *checks: str, operator: str = "clone", **when: Any) -> Fault:
    return _single_fault(
        f"cpu_{operator.strip('_')}.{change}{_name_suffix(when)}",
        "arrives_wrong",
        *checks,
        where="cpu",
        on_device=True,
        way="device_to_device",
        change=change,
        operators=(operator,),
        **when,
    )


_SINGLE_FAULTS: Final = (
    _cpu_copy_fault("one_bit", "device_to_device_sizes"),
    _cpu_copy_fault("zeros", "device_to_device_layouts"),
    _cpu_copy_fault("short", "device_to_device_dtypes"),
    _cpu_copy_fault("swapped", "integrity_sum"),
    _cpu_copy_fault("one_bit", "device_to_device_sizes", large=True),
    _cpu_copy_fault("one_bit", "device_to_device_dtypes", dtype="float16"),
    _cpu_copy_fault("beside", "device_to_device_sizes", operator="copy_"),
    _cpu_copy_fault("one_bit", "first_copy", operator="_to_copy"),
    _cpu_copy_fault("one_bit", "first_copy", operator="_to_copy", first=1),
    _single_fault(
        "copy.lost",
        "does_not_arrive",
        "device_to_device_sizes",
        way="device_to_device",
        on_device=True,
    ),
    _single_fault("copy.not_into_strided", "not_into_strided", "device_to_device_layouts"),
    _single_fault("copy.in_memory_order", "in_memory_order", "device_to_device_layouts"),
    _single_fault("to.bfloat16_cut_off", "bfloat16_cut_off", "device_to_device_converts"),
    _single_fault("to.never_copies", "copies_unasked", "same_device", event=_ALIAS, always=False),
    _single_fault("to.always_copies", "copies_unasked", "same_device", event=_ALIAS, always=True),
    _single_fault("clone.is_an_alias", "clone_is_an_alias", "same_device", event=_ALIAS),
    _single_fault("contiguous.copies", "contiguous_copies", "same_device", event=_ALIAS),
    _single_fault("item.off_by_one", "items_off_by_one", "scalars", event=_READ),
    _single_fault("tolist.reversed", "lists_reversed", "scalars", event=_READ),
    _single_fault(
        "host_to_device.moves_the_source",
        "moves_the_source",
        "to_device_moves",
        event=_ALIAS,
        where="accelerator",
        on_device=True,
    ),
    _single_fault(
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

#: Faults of the pattern that all copies are compared with; no copy may then fail.
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

_AT_THE_DEVICE: Final = (
    wrong_kernel("device_transfer", "copy_", "one_bit", "device_to_device_sizes", event=_COPY),
)

FAULTS: Final[tuple[Fault, ...]] = (*_DIRECTION_FAULTS, *_SINGLE_FAULTS, *_PATTERN, *_AT_THE_DEVICE)

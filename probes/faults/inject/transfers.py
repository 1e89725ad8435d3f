"""Makes copies of one direction go wrong; the devices of source and destination give it."""

import contextlib
from collections.abc import Callable
from typing import Any, Final

import torch

from probes.faults.inject.operations import TALLY, When, intercept
from probes.faults.inject.replaced import replace, with_result
from probes.kit.tensors import synchronize

_COPIES: Final = ("copy_", "_to_copy", "clone")

#: Changes a flat copy of the copied bytes on the host, in place.
Change = Callable[[torch.Tensor], None]


def _bit(raw: torch.Tensor) -> None:
    raw[raw.numel() // 2] ^= 1


def _zeros(raw: torch.Tensor) -> None:
    raw.zero_()


def _short(raw: torch.Tensor) -> None:
    raw[-1] = 0xAB if int(raw[-1]) != 0xAB else 0


def _byte_order(raw: torch.Tensor) -> None:
    even = raw[: raw.numel() // 2 * 2]
    even.copy_(even.reshape(-1, 2).flip(1).reshape(-1))


def _shifted(raw: torch.Tensor) -> None:
    raw.copy_(raw.roll(1))


def _swapped(raw: torch.Tensor) -> None:
    """Exchange two distant words in large buffers, which keeps sums equal."""
    if raw.numel() > 2**20:
        first, second = raw[200000:200004].clone(), raw[600000:600004].clone()
        raw[200000:200004], raw[600000:600004] = second, first


_CHANGES: Final[dict[str, Change]] = {
    "one_bit": _bit,
    "zeros": _zeros,
    "short": _short,
    "byte_order": _byte_order,
    "shifted": _shifted,
    "swapped": _swapped,
}


def _direction(source: torch.Tensor, arrived: torch.Tensor, device: str) -> str:
    """The direction of a copy; if the device is the CPU, every copy is `device_to_device`."""
    kinds = (source.device.type, arrived.device.type)
    if kinds == ("cpu", "cpu"):
        return "device_to_device" if torch.device(device).type == "cpu" else "within_host"
    if kinds[0] == "cpu":
        return "host_to_device"
    return "device_to_host" if kinds[1] == "cpu" else "device_to_device"


def _spoil(arrived: torch.Tensor, change: Change) -> None:
    raw = arrived.detach().cpu().contiguous().reshape(-1).view(torch.uint8).clone()
    change(raw)
    arrived.copy_(raw.view(arrived.dtype).reshape(arrived.shape))


def _beside(arrived: torch.Tensor, _: Change) -> None:
    """Write one byte past the end, if there is memory."""
    if not arrived.is_contiguous():
        return
    end = (arrived.storage_offset() + arrived.numel()) * arrived.element_size()
    flat = arrived.detach().reshape(-1).view(torch.uint8)
    with contextlib.suppress(RuntimeError):  # the memory ends there
        flat.as_strided((1,), (1,), end).fill_(7)


def arrives_wrong(
    way: str,
    change: str,
    device: str,
    operators: tuple[str, ...] = _COPIES,
    **when: Any,
) -> None:
    """Spoil the result of copies of one direction; `beside` spoils the byte after it."""
    condition = When(**when)
    spoil = _beside if change == "beside" else _spoil
    change_bytes = _CHANGES.get(change, _zeros)

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        source = args[1] if func._schema.name == "aten::copy_" else args[0]
        if not isinstance(source, torch.Tensor) or not out.numel():
            return out
        if _direction(source, out, device) != way:
            return out
        call, TALLY.calls = TALLY.calls, TALLY.calls + 1
        if condition.applies(call, out):
            synchronize(device)  # else a pending copy would overwrite the change
            spoil(out, change_bytes)
        return out

    intercept(operators, handler)


def does_not_arrive(way: str, device: str, *, non_blocking: bool = False) -> None:
    """Skip copies of one direction, as if lost or read before completion."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        into, source = args[0], args[1]
        is_non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        if (
            not isinstance(source, torch.Tensor)
            or _direction(source, into, device) != way
            or (non_blocking and not is_non_blocking)
        ):
            return func(*args, **kwargs)
        return into

    intercept(("copy_",), handler)


def not_into_strided() -> None:
    """Skip copies into a destination that is not contiguous."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs) if args[0].is_contiguous() else args[0]

    intercept(("copy_",), handler)


def in_memory_order() -> None:
    """Copy a transposed matrix in memory order."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        into, source = args[0], args[1]
        transposed = (
            isinstance(source, torch.Tensor) and source.dim() == 2 and source.stride(0) == 1
        )
        if transposed and source.numel() == into.numel() > 1:
            return func(into, source.t().reshape(into.shape))
        return func(*args, **kwargs)

    intercept(("copy_",), handler)


def bfloat16_cut_off() -> None:
    """Convert float32 to bfloat16 by truncation."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        source = args[1] if func._schema.name == "aten::copy_" else args[0]
        if out.dtype == torch.bfloat16 and source.dtype == torch.float32:
            words = source.detach().contiguous().view(torch.int32)
            out.view(torch.int16).copy_(words.bitwise_right_shift(16).to(torch.int16))
        return out

    intercept(("copy_", "_to_copy"), handler)


def copies_unasked(*, always: bool) -> None:
    """Make `to` ignore `copy=`: copy always, or only where it must."""

    def wrong(to: Any) -> Any:
        def copying(tensor: torch.Tensor, *args: Any, copy: bool = False, **named: Any) -> Any:  # noqa: ARG001
            return to(tensor, *args, copy=always, **named)

        return copying

    replace(torch.Tensor, "to", wrong)


def clone_is_an_alias() -> None:
    """Make `clone` return a view of the same memory."""
    replace(torch.Tensor, "clone", lambda _: lambda tensor, **_named: tensor.view(tensor.shape))


def contiguous_copies() -> None:
    """Make `contiguous` copy a contiguous tensor."""
    replace(torch.Tensor, "contiguous", with_result(torch.Tensor.clone))


def moves_the_source(device: str) -> None:
    """Make a copy to the device change its source."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        source = args[0]
        if _direction(source, out, device) == "host_to_device" and source.numel():
            _spoil(source, _bit)
        return out

    intercept(("_to_copy",), handler)


def items_off_by_one() -> None:
    """Make `item()` return a number that is 1 too large."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs) + 1

    intercept(("_local_scalar_dense",), handler)


def lists_reversed() -> None:
    """Make `tolist()` return the list in reverse order."""

    def reading(to_list: Any) -> Any:
        def reversed_list(tensor: torch.Tensor) -> Any:
            return to_list(tensor)[::-1] if tensor.dim() else to_list(tensor)

        return reversed_list

    replace(torch.Tensor, "tolist", reading)

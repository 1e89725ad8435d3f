"""Matrix products that ignore what they were asked for: layout, scales, bias, terms, type."""

from typing import Any

import torch

from probes.faults.inject.operations import intercept


def layout_ignored(operators: tuple[str, ...]) -> None:
    """Read a matrix that is stored by columns as if it were stored by rows."""

    def by_rows(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dim() < 2 or value.is_contiguous():
            return value
        turned = value.mT
        return turned.reshape(value.shape) if turned.is_contiguous() else value

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*map(by_rows, args), **kwargs)

    intercept(operators, handler)


def scale_ignored(operators: tuple[str, ...], scale: str) -> None:
    """Compute with the default in the place of `alpha` or `beta`."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **{name: value for name, value in kwargs.items() if name != scale})

    intercept(operators, handler)


def addend_not_ignored(operators: tuple[str, ...]) -> None:
    """Multiply the addend by a `beta` of 0, so that its NaN stays."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        return out.add_(args[0] * 0) if kwargs.get("beta") == 0 else out

    intercept(operators, handler)


def bias_lost(operators: tuple[str, ...]) -> None:
    """Add nothing where a row is to be added, as an epilogue that is not run."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first = torch.zeros_like(args[0]) if args[0].dim() == 1 else args[0]
        return func(first, *args[1:], **kwargs)

    intercept(operators, handler)


def terms_lost(operators: tuple[str, ...], most: int) -> None:
    """Leave out the terms of a sum from so many on: a part of a split sum that is not added."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        left, right = args[-2:]
        return func(*args[:-2], left[..., :most], right[..., :most, :], **kwargs)

    intercept(operators, handler)


def operand_scales_ignored(operators: tuple[str, ...]) -> None:
    """Take the scales of float8 operands for 1."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rest = (torch.ones_like(each) if _is_scale(each) else each for each in args[2:])
        named = {k: torch.ones_like(v) if _is_scale(v) else v for k, v in kwargs.items()}
        return func(*args[:2], *rest, **named)

    intercept(operators, handler)


def _is_scale(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() == 1


def rounded_result(operators: tuple[str, ...]) -> None:
    """Round a result that was asked for in float32 to the type of the operands."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        kinds = {each.dtype for each in args if isinstance(each, torch.Tensor)}
        narrow = next((kind for kind in kinds if kind.itemsize < out.dtype.itemsize), out.dtype)
        return out.copy_(out.to(narrow))

    intercept(operators, handler)


def other_result_type(operators: tuple[str, ...], dtype: str) -> None:
    """Give the result in another type than was asked for."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs).to(getattr(torch, dtype))

    intercept(operators, handler)

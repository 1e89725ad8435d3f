"""Operations that ignore how their operands or their output lie in memory."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch

from probes.faults.inject.operations import intercept


def _storage(x: torch.Tensor) -> torch.Tensor:
    """All elements of the tensor's memory."""
    count = x.untyped_storage().nbytes() // x.element_size()
    return x.detach().as_strided((count,), (1,), 0)


def _elements(x: torch.Tensor, start: int) -> torch.Tensor:
    """As many places in the tensor's memory as it has elements, one after the other."""
    places = torch.arange(start, start + math.prod(x.shape), device=x.device)
    return places % max(len(_storage(x)), 1)


def _as_dense(x: torch.Tensor) -> torch.Tensor:
    return (
        x if x.is_contiguous() else _storage(x)[_elements(x, int(x.storage_offset()))].view(x.shape)
    )


def _from_the_start(x: torch.Tensor) -> torch.Tensor:
    if not x.is_contiguous() or x.storage_offset() == 0:
        return x
    return _storage(x)[_elements(x, 0)].view(x.shape)


def _first_only(x: torch.Tensor) -> torch.Tensor:
    """Of an expanded tensor the first element is read, the rest is zero."""
    if 0 not in x.stride() or x.numel() < 2:
        return x
    read = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
    read.view(-1)[0] = x.reshape(-1)[0]
    return read


_READS: Final[dict[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "strides": _as_dense,
    "offset": _from_the_start,
    "expansion": _first_only,
}


def misread(operators: tuple[str, ...], ignored: str) -> None:
    """Read each operand without regard to its strides, its offset, or its expansion."""
    read = _READS[ignored]

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        written = {id(x) for x in _written(func, args, kwargs)}

        def seen(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return [seen(each) for each in value]
            wrong = isinstance(value, torch.Tensor) and id(value) not in written
            return read(value) if wrong else value

        return func(*(seen(value) for value in args), **kwargs)

    intercept(operators, handler)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[torch.Tensor]:
    """The arguments that the operation writes to."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            yield from value if isinstance(value, (list, tuple)) else (value,)


def _densely(x: torch.Tensor, right: torch.Tensor) -> None:
    storage, places = _storage(x), _elements(x, int(x.storage_offset()))
    storage[places] = right.reshape(-1)


def _one_more(x: torch.Tensor, right: torch.Tensor) -> None:
    x.copy_(right)
    steps = ((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    behind = x.storage_offset() + sum(steps) + 1
    if x.numel() and behind < len(_storage(x)):
        _storage(x)[behind] = 1


_WRITES: Final[dict[str, Callable[[torch.Tensor, torch.Tensor], None]]] = {
    "densely": _densely,
    "to_a_copy": lambda _x, _right: None,
    "one_more": _one_more,
}


def miswrite(operators: tuple[str, ...], how: str) -> None:
    """Write an output without regard to its strides, to a copy, or one element too many.

    A dense output is written as it should be, but for the element too many.
    """
    write = _WRITES[how]

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        targets = list(_written(func, args, kwargs))
        before = [x.clone(memory_format=torch.preserve_format) for x in targets]
        found = func(*args, **kwargs)
        for x, old in zip(targets, before, strict=True):
            if x.shape != old.shape or (how != "one_more" and x.is_contiguous()):
                continue
            right = x.clone()
            x.copy_(old)
            write(x, right)
        return found

    intercept(operators, handler)

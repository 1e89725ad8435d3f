"""Comparisons of products that see nothing, or that have something wrong beside them."""

from collections.abc import Callable
from typing import Any, Final

import torch

from probes.faults.inject.replaced import replace
from probes.hot_products import running, ways
from probes.hot_products.ways import Found

_WAYS: Final = (ways.ByTorch, ways.ByKernels)


def _replaced(name: str, make: Callable[[Any], Any]) -> None:
    for way in _WAYS:
        replace(way, name, make)


def small() -> None:
    """Products are small, so that what is spoiled is copied in no time."""
    replace(running, "size", lambda _: lambda *_arguments: _SMALL)


def blind() -> None:
    """The comparison calls every word right."""

    def make(found: Any) -> Any:
        return lambda way: Found(found(way).compared, 0, ())

    _replaced("found", make)


def idle() -> None:
    """The comparison looks at nothing."""
    _replaced("compare", lambda _: lambda *_arguments: None)


def half() -> None:
    """The comparison looks at the first half of the rows."""

    def make(compare: Any) -> Any:
        def comparing(
            way: Any, result: torch.Tensor, right: torch.Tensor, first: int, product: int
        ) -> None:
            compare(way, result[: len(result) // 2], right, first, product)

        return comparing

    _replaced("compare", make)


def other_rows() -> None:
    """One bit of what the host computed is wrong on the device."""

    class Products(running.Products):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.right[5, 3] ^= 1 << 7

    replace(running, "Products", lambda _: Products)


def misread() -> None:
    """One bit of a result is wrong when it is read first, in one product of many."""

    def make(compare: Any) -> Any:
        def comparing(
            way: Any, result: torch.Tensor, right: torch.Tensor, first: int, product: int
        ) -> None:
            if product == _MISREAD:
                result = result.clone()
                result[7, 11] ^= 1 << 9
            compare(way, result, right, first, product)

        return comparing

    _replaced("compare", make)


_MISREAD: Final = 7
_SMALL: Final = 64

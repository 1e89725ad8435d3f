"""Replaces functions of torch for the rest of the process."""

from collections.abc import Callable
from typing import Any


def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace the function `owner.name` by `make(function)`."""
    setattr(owner, name, make(getattr(owner, name)))


def raising(text: str, kind: type[Exception] = RuntimeError) -> Callable[..., Any]:
    """A function that raises an error with that text."""

    def call(*_: Any, **__: Any) -> Any:
        raise kind(text)

    return call


def with_result(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """For `replace`: the call, with its result changed."""

    def make(original: Any) -> Any:
        return lambda *arguments, **named: change(original(*arguments, **named))

    return make


def except_when(
    condition: Callable[[Any], bool], instead: Callable[[Any, Any], Any]
) -> Callable[[Any], Any]:
    """For `replace`: the call, or `instead(call, argument)` if `condition(first argument)`."""

    def make(original: Any) -> Any:
        def call(value: Any, *arguments: Any, **named: Any) -> Any:
            return (
                instead(original, value)
                if condition(value)
                else original(value, *arguments, **named)
            )

        return call

    return make

"""Putting something else in the place of a function of torch, for the rest of the process."""

from collections.abc import Callable
from typing import Any


def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put what `make` makes of it in a function's place."""
    setattr(owner, name, make(getattr(owner, name)))


def raising(text: str, kind: type[Exception] = RuntimeError) -> Callable[..., Any]:
    """A call that torch refuses."""

    def call(*_: Any, **__: Any) -> Any:
        raise kind(text)

    return call


def then(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The call, its result changed."""

    def make(kept: Any) -> Any:
        return lambda *arguments, **named: change(kept(*arguments, **named))

    return make


def but(when: Callable[[Any], bool], instead: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """The call, but for some first arguments something else: `instead(call, argument)`."""

    def make(kept: Any) -> Any:
        def call(value: Any, *arguments: Any, **named: Any) -> Any:
            return instead(kept, value) if when(value) else kept(value, *arguments, **named)

        return call

    return make

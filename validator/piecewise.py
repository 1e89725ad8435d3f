"""Long work in pieces, so that an event loop that does it answers others in between.

A thread would not do: calls of the interpreter and of pydantic hold the others up while they last.
"""

import asyncio
import time
from collections import deque
from collections.abc import Generator, Iterator
from typing import Final, TypeVar

_T = TypeVar("_T")

#: Work that returns a value in the end, and yields wherever it may be left for a moment.
Pieces = Generator[None, None, _T]

#: The loop is held for so long and for what the piece takes beyond it, in seconds.
_HOLD_S: Final = 0.005


def at_once(pieces: Pieces[_T]) -> _T:
    """What the work returns, for who has nobody else to answer."""
    value: list[_T] = []
    deque(_kept(pieces, value), maxlen=0)
    return value[0]


async def in_pieces(pieces: Pieces[_T]) -> _T:
    """What the work returns; others have their turns meanwhile."""
    value: list[_T] = []
    until_s = time.perf_counter() + _HOLD_S
    for _ in _kept(pieces, value):
        if time.perf_counter() >= until_s:
            await asyncio.sleep(0)
            until_s = time.perf_counter() + _HOLD_S
    return value[0]


def _kept(pieces: Pieces[_T], value: list[_T]) -> Iterator[None]:
    """The pieces; what the work returns in the end is put into a list."""
    value.append((yield from pieces))

"""Long work in pieces: the same value, and others have their turns meanwhile."""

import asyncio

import pytest

from validator import piecewise
from validator.piecewise import Pieces, at_once, in_pieces


def counting(pieces: int) -> Pieces[int]:
    """Work of so many pieces that returns their sum."""
    total = 0
    for number in range(pieces):
        total += number
        yield
    return total


def test_the_value_is_the_same() -> None:
    """Whether somebody else has turns or not."""
    assert at_once(counting(4)) == asyncio.run(in_pieces(counting(4))) == 6


@pytest.mark.parametrize(("hold_s", "turns"), [(0.0, 100), (3600.0, 0)])
def test_others_have_turns_after_what_holds_the_loop(
    monkeypatch: pytest.MonkeyPatch, hold_s: float, turns: int
) -> None:
    """One after each piece that is long, none between short ones."""
    monkeypatch.setattr(piecewise, "_HOLD_S", hold_s)
    seen = 0

    async def go() -> int:
        async def beside() -> None:
            nonlocal seen
            while True:
                await asyncio.sleep(0)
                seen += 1

        task = asyncio.ensure_future(beside())
        await asyncio.sleep(0)
        value = await in_pieces(counting(100))
        task.cancel()
        return value

    assert asyncio.run(go()) == sum(range(100))
    assert abs(seen - turns) <= 1


def test_an_exception_comes_through() -> None:
    """With nothing lost of it."""

    def broken() -> Pieces[None]:
        yield
        raise LookupError("x")

    with pytest.raises(LookupError, match="x"):
        asyncio.run(in_pieces(broken()))
    with pytest.raises(LookupError, match="x"):
        at_once(broken())

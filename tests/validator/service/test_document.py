"""A document about the merged report: made once a change, whoever asks meanwhile."""

import asyncio

from tests.validator.service.fake_runner import everything, report
from validator.piecewise import Pieces
from validator.report import Report
from validator.service.document import Document
from validator.service.latest import Latest


def test_made_once_a_change() -> None:
    """Ten who ask at a time have it made once; after another run it is another."""
    latest, made = Latest(), 0

    def make(about: Report) -> Pieces[str]:
        nonlocal made
        made += 1
        yield
        return f"{about.run_id} {made}"

    document = Document(make)

    async def ask(many: int) -> list[bytes | None]:
        return await asyncio.gather(*(document.content(latest) for _ in range(many)))

    before = asyncio.run(ask(1))
    latest.limit({one.probe: 900.0 for one in everything()})
    latest.accept(report(everything()))
    first = asyncio.run(ask(10))
    latest.accept(report(everything()))

    assert before == [None]
    assert first == [b"run-1 1"] * 10
    assert asyncio.run(ask(1)) == [b"run-1 2"]

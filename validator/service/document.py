"""A document about the merged report, made once a change and in pieces."""

import asyncio
from collections.abc import Callable

from validator.piecewise import Pieces, in_pieces
from validator.report import Report
from validator.service.latest import Latest


class Document:
    """The bytes that whoever asks gets; of all who ask at a time one has them made."""

    def __init__(self, make: Callable[[Report], Pieces[str]]) -> None:
        """Create it; `make` writes it about a report."""
        self._make = make
        self._version = -1
        self._content: bytes | None = None
        self._making = asyncio.Lock()

    async def content(self, latest: Latest) -> bytes | None:
        """The document about what counts now; None before the first run has ended."""
        async with self._making:
            version = latest.version
            if self._version != version:
                report = latest.merged_report()
                text = None if report is None else await in_pieces(self._make(report))
                self._content = None if text is None else text.encode()
                self._version = version
        return self._content

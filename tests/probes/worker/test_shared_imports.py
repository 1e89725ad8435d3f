"""What probes share is imported by the worker, once, before it is asked for a child."""

import time
from pathlib import Path

import pytest

from validator.engine.spawn import start_worker

pytestmark = pytest.mark.slow

#: The library that pydantic, which every child needs, is loaded from.
LIBRARY = "_pydantic_core"
WITHIN_S = 100


def test_it_is_imported_before_any_request() -> None:
    """Else each of the first children, the survey too, would import it for itself."""
    worker = start_worker(bare=True)
    try:
        maps = Path(f"/proc/{worker.process.pid}/maps")
        until = time.monotonic() + WITHIN_S
        while LIBRARY not in maps.read_text(encoding="utf-8") and time.monotonic() < until:
            time.sleep(0.01)

        assert LIBRARY in maps.read_text(encoding="utf-8")
        assert worker.process.poll() is None  # it waits: nobody has asked it for anything
    finally:
        worker.kill()

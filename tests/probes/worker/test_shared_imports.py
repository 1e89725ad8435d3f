"""What probes share is imported by the worker, once, before it forks its first child."""

import importlib
import socket
from typing import Any

import pytest

from probes.worker import main


@pytest.mark.parametrize("request_", [{"survey": True}, {"probes": []}])
def test_it_is_imported_before_any_child_even_the_survey(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A survey that was forked before would import pydantic for itself, beside the worker."""
    order: list[str] = []
    monkeypatch.setattr(importlib, "import_module", order.append)
    monkeypatch.setattr(main._Worker, "_fork", lambda *_: order.append("fork"))
    left, right = socket.socketpair()
    with left, right:
        worker = main._Worker(left, bare=False)
        for _ in range(2):
            worker._handle({"do": "fork", "job": 1, **request_}, [0, 0])

    shared = [*main._SHARED, *main._SHARED_WITH_TORCH]
    assert order == [*shared, "fork", "fork"]

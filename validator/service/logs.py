"""Logs: one line an event on stderr, as text (`key=value`) or as JSON."""

import contextlib
import json
import logging
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any, Final, Literal

from validator.service.logqueue import LogQueue, write

STDERR: Final = 2

#: What the end of the daemon waits for a reader of the log.
_END_S: Final = 1.0


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Hide a module from what is imported meanwhile, unless it is there already.

    structlog's console renderer imports rich where it is installed: 2 MiB that stay in a daemon
    which never draws a console.
    """
    hidden = module not in sys.modules
    if hidden:
        sys.modules[module] = None  # type: ignore[assignment]  # makes `import` raise
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]


with _without("rich"):
    import structlog

    from validator.service.repeats import Repeats


class _Stderr:
    """Writes a line whole, in one call. A reader that has gone away must not end the daemon."""

    def msg(self, line: str) -> None:
        whole = _printable(line).encode() + b"\n"
        if _QUEUES:
            _QUEUES[-1].put(whole)
        else:
            write(STDERR, whole)

    debug = info = warning = error = critical = msg


#: The queue of a daemon; without one a line is written at once.
_QUEUES: Final[list[LogQueue]] = []


@contextlib.contextmanager
def queued() -> Iterator[None]:
    """Let a thread write the lines of the block; its end waits for it, but not for long."""
    try:
        queue = LogQueue(STDERR, _tell_dropped)
    except RuntimeError as error:  # a limit on threads
        log().warning("log_is_not_queued", error=str(error))
        yield
        return
    _QUEUES.append(queue)
    try:
        yield
    finally:
        _say_repeats(all_of_them=True)
        queue.close(_END_S)
        _QUEUES.remove(queue)


def flush() -> None:
    """Write what waits, for a process that is about to end itself; not for long."""
    if _QUEUES:
        _QUEUES[-1].flush(_END_S)


def dropped() -> int:
    """How many lines were dropped because nobody read them in time."""
    return _QUEUES[-1].dropped if _QUEUES else 0


def _tell_dropped(lines: int) -> None:
    log().warning("log_lines_dropped", lines=lines)


def tick() -> None:
    """Say what was held back as a repetition and did not come again."""
    _say_repeats()


def _say_repeats(*, all_of_them: bool = False) -> None:
    for held in _REPEATS[-1].overdue(all_of_them=all_of_them) if _REPEATS else ():
        level, event = held.pop("level"), held.pop("event")
        getattr(log(), level)(event, **held)


#: The processor in force.
_REPEATS: Final[list[Repeats]] = []


class _Library(logging.Handler):
    """Passes on what libraries log through the standard library, from WARNING on."""

    def emit(self, record: logging.LogRecord) -> None:
        details: dict[str, str] = {}
        if record.exc_info and record.exc_info[0] is not None:
            details["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        structlog.get_logger().log(
            record.levelno, "library", logger=record.name, message=record.getMessage(), **details
        )


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["text", "json"] = "text",
) -> None:
    """Set level and form of all lines from now on; call it again to change them."""
    keys = ["timestamp", "level", "event"]
    render: Any = (
        structlog.processors.LogfmtRenderer(key_order=keys, bool_as_flag=False)
        if form == "text"
        else structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    )
    _say_repeats(all_of_them=True)
    _REPEATS[:] = [Repeats()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _REPEATS[0],
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _flat if form == "text" else _identity,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, _Library)]:
        root.removeHandler(handler)
    root.addHandler(_Library())


def log() -> Any:
    """The logger: `log().info("run_started", probes=7)`."""
    return structlog.get_logger()


def _flat(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Lists as `a,b`: a text line is read by people."""
    return {
        key: ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        for key, value in event.items()
    }


def _printable(line: str) -> str:
    """A line without what steers a terminal or begins another line, as JSON would escape it."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def _identity(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    return dict(event)

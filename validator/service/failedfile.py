"""The standing fails as a file, so that a restart of the daemon forgets none.

Of probes that load a device alone: all others run at once when a daemon starts. A GPU that was
found broken is so after a boot too. Only a regular file that a daemon of ours wrote is touched.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final, NamedTuple

from probes.catalog import BY_NAME
from probes.contract import HEAVY, Result
from validator import whole_file
from validator.in_time import in_time
from validator.reader import read_report
from validator.report import SCHEMA_VERSION, host_name, is_same_host, make_report, to_json
from validator.service.latest import end_time
from validator.service.statusfiles import Kind, obstacle, write_or_remove

#: A report of eight GPUs has at most 1.25 MiB, one of 56 instances not much more.
_MOST_BYTES: Final = 8 * 1024 * 1024

#: What lies further ahead of this clock than this is another clock's.
_AHEAD: Final = timedelta(seconds=5)

_HEAD: Final = '{"kept_by": "gpu-validator", "report": '
#: Its fails stay where it cannot be renewed: an old fail is better than none.
_KIND: Final = Kind(
    lambda content: content.startswith(_HEAD), lambda _: _HEAD, vouches=False, mode=0o600
)


class Kept(NamedTuple):
    """What an earlier daemon left."""

    failed: tuple[Result, ...] = ()
    refused: tuple[str, ...] = ()  # why the others, or the whole file, do not count


def keep(path: Path, failed: Sequence[Result]) -> list[str]:
    """Write the fails, or remove the file when there are none; return what went wrong."""
    return write_or_remove(path, _text(failed) if failed else None, _KIND)


def problems(path: Path | None) -> list[str]:
    """What is in the way of the file; nothing is written."""
    why = "" if path is None else obstacle(path, _KIND)
    return [f"{path}: {why}"] if why else []


def read(path: Path, has_turn: Callable[[str], bool], timeout_s: float) -> Kept:
    """The fails that stand since before this start. Whatever the file is, nothing is raised.

    Args:
        path: the file.
        has_turn: whether a probe of that name runs here, so that it can pass.
        timeout_s: how long the file system may take, in seconds.
    """
    try:
        text = in_time(lambda: _content(path), timeout_s)
        results = _results(text) if text else ()
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or (str(error).splitlines() or ["no report"])[0]
        return Kept(refused=(f"{path}: {why}",))
    except Exception as error:  # noqa: BLE001 - no file keeps a daemon from its start
        return Kept(refused=(f"{path}: {type(error).__name__}: {error}",))
    why_not = [_refusal(one, has_turn, datetime.now(timezone.utc)) for one in results]
    return Kept(
        tuple(one for one, why in zip(results, why_not, strict=True) if not why),
        tuple(
            f"{path}: {one.probe} on {one.device}: {why}"
            for one, why in zip(results, why_not, strict=True)
            if why
        ),
    )


def _text(failed: Sequence[Result]) -> str:
    now = datetime.now(timezone.utc)
    report = make_report(
        run_id="kept",
        trigger="merged",
        profile="",
        results=failed,
        started_at=min(one.started_at for one in failed),
        finished_at=now,
        duration_s=0.0,
    )
    return f"{_HEAD}{to_json(report)}}}\n"


def _content(path: Path) -> str:
    """The file's text; empty where there is none, or it was emptied since it could not be removed.

    Raises:
        OSError: it cannot be read, or is not ours.
    """
    if why := obstacle(path, _KIND):
        raise OSError(0, why)
    with whole_file.at(path) as place:
        content = b"" if place.status() is None else place.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise OSError(0, f"has more than {_MOST_BYTES} bytes: not read")
    return content.decode().removesuffix(_HEAD)


def _results(text: str) -> tuple[Result, ...]:
    """The results of a file, whichever version wrote it.

    Raises:
        ValueError: it holds no report, one of another host, or one of another schema.
    """
    report = read_report(json.dumps(json.loads(text)["report"]))
    if report.schema_version != SCHEMA_VERSION:
        raise ValueError(f"is of schema version {report.schema_version}")
    if not is_same_host(report.host, host_name()):
        raise ValueError(f"is of the host {report.host}, and this is {host_name()}")
    return report.results


def _refusal(result: Result, has_turn: Callable[[str], bool], now: datetime) -> str:
    """Why a result does not stand; empty where it does."""
    spec = BY_NAME.get(result.probe)
    if spec is None:
        return "there is no such probe"
    if result.fault is not None:
        return f"made under the fault {result.fault}"
    if result.status != "fail":
        return f"{result.status} is no fail"
    if spec.profile not in HEAVY:
        return "it runs at once"
    if not has_turn(result.probe):
        return "the probe has no turn here"
    try:
        ahead = result.duration_s < 0 or end_time(result) - now > _AHEAD
    except (OverflowError, ValueError):
        ahead = True
    return "its time cannot be: the clock was set" if ahead else ""

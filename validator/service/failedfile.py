"""The standing fails as a file, so that a restart of the daemon forgets none.

Of probes that load a device alone: all others run at once when a daemon starts. A GPU that was
found broken is so after a boot too. Only a regular file that a daemon of ours wrote is touched.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, NamedTuple

from probes.catalog import BY_NAME
from probes.contract import Finding, Result
from validator import whole_file
from validator.in_time import in_time
from validator.reader import read_report
from validator.report import SCHEMA_VERSION, host_name, is_same_host, make_report, to_json
from validator.service.entry import end_time
from validator.service.statusfiles import Kind, obstacle, write_or_remove

#: More is not read; what is written has less.
_MOST_BYTES: Final = 8 * 1024 * 1024
#: Beyond it a fail is kept without its details: of 56 instances in which all is wrong.
_WHOLE_BYTES: Final = 2 * 1024 * 1024

_SUMMARY_CHARACTERS: Final = 200

_HEAD: Final = '{"kept_by": "gpu-validator", "report": '
#: Its fails stay where it cannot be renewed: an old fail is better than none.
_KIND: Final = Kind(
    lambda content: content.startswith(_HEAD), lambda _: _HEAD, vouches=False, mode=0o600
)


class Kept(NamedTuple):
    """What an earlier daemon left."""

    failed: tuple[Result, ...] = ()
    away: tuple[Result, ...] = ()  # of another host's GPUs: they count once those are here
    refused: tuple[str, ...] = ()  # why the others, or the whole file, do not count


def keep(path: Path, failed: Sequence[Result]) -> list[str]:
    """Write the fails, or remove the file when there are none; return what went wrong."""
    return write_or_remove(path, _text(failed) if failed else None, _KIND)


def problems(path: Path | None) -> list[str]:
    """What is in the way of the file; nothing is written."""
    why = "" if path is None else obstacle(path, _KIND)
    return [f"{path}: {why}"] if why else []


def read(path: Path, timeout_s: float) -> Kept:
    """The fails that stand since before this start. Whatever the file is, nothing is raised.

    Args:
        path: the file.
        timeout_s: how long the file system may take, in seconds.
    """
    try:
        text = in_time(lambda: _content(path), timeout_s)
        if not text:
            return Kept()
        host, results = _results(text)
        is_here = is_same_host(host, host_name())
        why_not = [_refusal(one) or _strange(one, "" if is_here else host) for one in results]
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or (str(error).splitlines() or ["no report"])[0]
        return Kept(refused=(f"{path}: {why}",))
    except Exception as error:  # noqa: BLE001 - no file keeps a daemon from its start
        return Kept(refused=(f"{path}: {type(error).__name__}: {error}",))
    good = tuple(one for one, why in zip(results, why_not, strict=True) if not why)
    refused = tuple(
        f"{path}: {one.probe} on {one.device}: {why}"
        for one, why in zip(results, why_not, strict=True)
        if why
    )
    return Kept(good, (), refused) if is_here else Kept((), good, refused)


def _text(failed: Sequence[Result]) -> str:
    text = _report_text(failed)
    return text if len(text) <= _WHOLE_BYTES else _report_text(tuple(map(_short, failed)))


def _report_text(failed: Sequence[Result]) -> str:
    report = make_report(
        run_id="kept",
        trigger="merged",
        profile="",
        results=failed,
        started_at=min(one.started_at for one in failed),
        finished_at=datetime.now(timezone.utc),
        duration_s=0.0,
    )
    return f"{_HEAD}{to_json(report)}}}\n"


def _short(fail: Result) -> Result:
    """A fail with what it takes to know when it has passed: the checks that were wrong."""
    wrong = (Finding(id=one.id, status="fail") for one in fail.findings if one.status == "fail")
    summary = fail.summary[:_SUMMARY_CHARACTERS]
    return Result(
        **{name: getattr(fail, name) for name in ("probe", "device", "gpu_uuid", "status")},
        **{name: getattr(fail, name) for name in ("reason", "started_at", "duration_s")},
        summary=summary,
        findings=tuple(wrong),
    )


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


def _results(text: str) -> tuple[str, tuple[Result, ...]]:
    """The host and the results of a file, whichever version wrote it.

    Raises:
        ValueError: it holds no report, or one of another schema.
    """
    report = read_report(json.dumps(json.loads(text)["report"]))
    if report.schema_version != SCHEMA_VERSION:
        raise ValueError(f"is of schema version {report.schema_version}")
    return report.host, report.results


def _strange(result: Result, host: str) -> str:
    """Why a result of another host says nothing of this one; empty where its GPU can be here.

    A container has a new name each time that it is made, and a GPU the same UUID wherever it is.
    """
    if not host or result.gpu_uuid is not None:
        return ""
    return f"is of the host {host}, and this is {host_name()}"


def _refusal(result: Result) -> str:
    """Why a result does not stand; empty where it does.

    One from the future does: a machine may start with its clock far behind.
    """
    spec = BY_NAME.get(result.probe)
    if spec is None:
        return "there is no such probe"
    if result.fault is not None:
        return f"made under the fault {result.fault}"
    if result.status != "fail":
        return f"{result.status} is no fail"
    if not spec.is_heavy:
        return "it runs at once"
    try:
        end_time(result).astimezone(timezone.utc)  # one that a clock can show
        cannot_be = result.duration_s < 0
    except (OverflowError, ValueError):
        cannot_be = True
    return "its time cannot be" if cannot_be else ""

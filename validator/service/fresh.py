"""The daemon's report as the answer of `check`, where it answers what was asked."""

import importlib.metadata
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from packaging.specifiers import SpecifierSet

from probes.catalog import CUDA_AVAILABLE
from probes.contract import Result
from validator.engine import devices, outcomes
from validator.engine.plan import Plan, is_enabled
from validator.reader import read_report
from validator.report import (
    CPU,
    SCHEMA_VERSION,
    Device,
    Report,
    host_name,
    is_same_host,
    overall,
    summarize,
)
from validator.service.ask import UNIX, NoAnswerError, get, url_of
from validator.service.entry import end_time
from validator.service.trust import NO_RUN, Trust
from validator.settings.model import Settings
from validator.settings.values import host_port

#: The daemon answers from memory; one that takes longer is stuck, and a prolog has no more time.
_DEADLINE_S: Final = 2.0

#: Result times are of the daemon's clock. What lies further ahead than this is another clock's.
_AHEAD_S: Final = 5.0

_ALL_GPUS: Final = "cuda_available.all_gpus"

#: What limits the GPUs that a process sees, and so what `cuda:0` means in it.
_VISIBLE: Final = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


def server_of(settings: Settings) -> str:
    """Where the daemon of these settings is asked: its unix socket, or else its first address."""
    if settings.web.unix_socket is not None:
        return f"{UNIX}{settings.web.unix_socket}"
    return url_of(*host_port(settings.web.listen_address[0]))


def fetch(server: str, trust: Trust) -> Report:
    """The daemon's merged report.

    Raises:
        NoAnswerError: it gave none, or who answered need not be the daemon.
    """
    prefix = "" if server.startswith(UNIX) else urlsplit(server).path.rstrip("/")
    answer = get(server, f"{prefix}/api/v1/report", _DEADLINE_S, trust)
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
        early = NO_RUN.encode() in answer.body
        raise NoAnswerError(f"{server} {'has ended no run yet' if early else 'is busy'}")
    try:
        report = read_report(answer.body) if answer.status == 200 else None
    except (ValueError, RecursionError):  # no JSON, no report, or a text made to be neither
        report = None
    if report is None or report.schema_version != SCHEMA_VERSION:
        what = f"no report of version {SCHEMA_VERSION}"
        raise NoAnswerError(f"{server} answered {answer.status} and {what}")
    return report


@dataclass(frozen=True)
class Asker:
    """Who asks, where and when."""

    now: datetime
    host: str  # this node's name, as a report made here would have it
    environment: Mapping[str, str]  # its variables limit the GPUs that it sees
    torch: str | None  # the version that a run here would judge, where there is one
    booted_at: datetime | None  # when this machine was started, where that is known


def this_asker() -> Asker:
    """This process, now."""
    return Asker(
        now=datetime.now(timezone.utc),
        host=host_name(),
        environment=os.environ,
        torch=installed_torch(),
        booted_at=_boot_time(),
    )


def select(
    report: Report, plan: Plan, settings: Settings, *, max_age_s: float, asker: Asker
) -> Report:
    """The part of the daemon's report that answers a plan.

    Args:
        report: the daemon's.
        plan: what is asked for; a dearer profile of the daemon's holds its probes too.
        settings: those of who asks: devices, promises, probes that are switched off.
        max_age_s: the oldest that any result may be, in seconds.
        asker: who asks.

    Raises:
        NoAnswerError: it does not answer it; the text says why.
    """
    now, environment = asker.now, asker.environment
    _refuse_other_node(report, asker.host)
    _refuse_future(report, now)
    _refuse_before(report, plan, asker.booted_at)
    _refuse_other_torch(report, asker.torch)
    chosen = _devices(report, settings, environment)
    _refuse_broken_promise(report, settings, environment)
    known = _by_pair(report)
    results: list[Result] = list(_results_of_lost(report, plan, settings, environment))
    for gone in results:
        _usable(gone, max_age_s, now)
    for spec in plan.specs:
        for device in (CPU,) if spec.needs == "host" else chosen:
            if not is_enabled(spec, settings):
                results.append(outcomes.disabled(spec, device))
                continue
            result = known.get((spec.name, device.name))
            if result is None:
                raise NoAnswerError(f"the daemon has no result of {spec.name} on {device.name}")
            _usable(result, max_age_s, now)
            results.append(result)
    return report.model_copy(
        update={
            "results": tuple(results),
            "not_run": (),
            "devices": chosen,
            "status": overall(results),
            "summary": summarize(results),
        }
    )


def _usable(result: Result, max_age_s: float, now: datetime) -> None:
    where = f"the daemon's result of {result.probe} on {result.device}"
    if result.reason == "disabled":
        raise NoAnswerError(f"{where} is none: the probe is disabled there")
    age_s = _age_s(result, now)
    if age_s > max_age_s:
        raise NoAnswerError(f"{where} is {age_s:.0f} s old")
    if age_s < -_AHEAD_S:
        raise NoAnswerError(f"{where} is {-age_s:.0f} s ahead of this clock")


def _age_s(result: Result, now: datetime) -> float:
    """Seconds since a result's probe ended; below 0 when its clock is ahead of ours."""
    wrong = NoAnswerError(
        f"the daemon's result of {result.probe} on {result.device} has a time that cannot be: "
        f"started_at {result.started_at}, duration_s {result.duration_s:g}"
    )
    if not result.duration_s >= 0:  # NaN too
        raise wrong
    try:
        return (now - end_time(result)).total_seconds()
    except OverflowError:
        raise wrong from None


def _refuse_other_node(report: Report, host: str) -> None:
    """Refuse another node's report."""
    if not is_same_host(report.host, host):
        raise NoAnswerError(
            f"the daemon's report is of the host {report.host}, and this is {host} (a container "
            "that speaks for its node has the node's name in NODE_NAME)"
        )


def _refuse_future(report: Report, now: datetime) -> None:
    ahead_s = (max(report.started_at, report.finished_at) - now).total_seconds()
    if ahead_s > _AHEAD_S:
        raise NoAnswerError(f"the daemon's report is {ahead_s:.0f} s ahead of this clock")


def _refuse_before(report: Report, plan: Plan, booted_at: datetime | None) -> None:
    """Refuse what was found before this machine was started: then another driver may have run.

    A fail that a daemon has kept over a boot refuses no answer about other probes.
    """
    if booted_at is None:
        return
    asked = {spec.name for spec in plan.specs}
    for result in report.results:
        if result.probe in asked and (booted_at - result.started_at).total_seconds() > _AHEAD_S:
            raise NoAnswerError(
                f"the daemon's result of {result.probe} on {result.device} is from before this "
                f"machine was started, at {booted_at:%Y-%m-%d %H:%M:%S} UTC"
            )


def _boot_time() -> datetime | None:
    """When this machine was started, by proc_stat(5); None where that is not told."""
    try:
        text = Path("/proc/stat").read_text(encoding="utf-8")
        seconds = next(line for line in text.splitlines() if line.startswith("btime "))
        return datetime.fromtimestamp(int(seconds.split()[1]), timezone.utc)
    except (OSError, ValueError, StopIteration, OverflowError):
        return None


def _by_pair(report: Report) -> dict[tuple[str, str], Result]:
    """The results by probe and device; none may have been made under a fault, or be there twice."""
    known: dict[tuple[str, str], Result] = {}
    for result in report.results:
        where = f"{result.probe} on {result.device}"
        if result.fault is not None:
            raise NoAnswerError(
                f"the daemon's result of {where} was made under the fault {result.fault}, "
                "which was injected on purpose"
            )
        if (result.probe, result.device) in known:
            raise NoAnswerError(f"the daemon has two results of {where}")
        known[result.probe, result.device] = result
    return known


def oldest_s(report: Report, now: datetime) -> float:
    """The age of its oldest result, in seconds."""
    return max([_age_s(result, now) for result in report.results], default=0.0)


def installed_torch() -> str | None:
    """The version of the torch that a run here would import, told without importing it."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def _refuse_other_torch(report: Report, torch_here: str | None) -> None:
    """Refuse results about another torch; where none is installed here, the daemon's is meant."""
    theirs = report.environment.torch
    # Of `2.13.0+cu130` the local part may be missing from the metadata of an installed wheel.
    if torch_here is not None and theirs is not None:
        here, there = torch_here.partition("+")[0], theirs.partition("+")[0]
        if here != there:
            raise NoAnswerError(f"the daemon judged torch {theirs}, and here is {torch_here}")


def _refuse_broken_promise(
    report: Report, settings: Settings, environment: Mapping[str, str]
) -> None:
    """Refuse a report that breaks a promise of our settings, which need not be the daemon's."""
    gpus = devices.count_gpus(report.devices)
    instances, least = devices.count_instances(report.devices), settings.expect.mig_instances
    if least is not None and instances < least:
        raise NoAnswerError(f"expect.mig_instances is {least}, the daemon tells of {instances}")
    limit = _limit(environment)
    seen = gpus if limit is None else min(gpus, len(limit[1]))
    if settings.expect.gpus != "auto" and seen < settings.expect.gpus:
        raise NoAnswerError(f"expect.gpus is {settings.expect.gpus}, the daemon tells of {seen}")
    wanted, theirs = settings.expect.torch, report.environment.torch
    if wanted and not (theirs and SpecifierSet(wanted).contains(theirs, prereleases=True)):
        raise NoAnswerError(f"expect.torch is {wanted}, the daemon judged torch {theirs}")


def _devices(
    report: Report, settings: Settings, environment: Mapping[str, str]
) -> tuple[Device, ...]:
    """The daemon's devices that are asked for, whatever they are called here."""
    names = tuple(_translate(settings.run.devices, environment))
    found = tuple(device for device in report.devices if device.type != CPU.type)
    chosen, missing = devices.choose(names, found)
    if missing and not _lost_gpus(report):
        raise NoAnswerError(f"the daemon knows no device {missing[0]!r}")
    return chosen


def _lost_gpus(report: Report) -> list[Result]:
    """The daemon's own words that GPUs of the node are lost."""
    return [
        result
        for result in report.results
        if any(each.id == _ALL_GPUS and each.status == "fail" for each in result.findings)
    ]


def _results_of_lost(
    report: Report, plan: Plan, settings: Settings, environment: Mapping[str, str]
) -> Iterator[Result]:
    """A result for each asked device that the daemon does not know, where it has lost some.

    By itself not to know a device says nothing: the daemon may have been given fewer.
    """
    if CUDA_AVAILABLE not in plan.specs:
        return
    found = tuple(device for device in report.devices if device.type != CPU.type)
    _, missing = devices.choose(tuple(_translate(settings.run.devices, environment)), found)
    present = ", ".join(device.name for device in (*found, CPU))
    for name, lost in zip(missing, _lost_gpus(report) * len(missing), strict=False):
        gone = outcomes.no_such_device(CUDA_AVAILABLE, devices.absent(name), present)
        yield gone.model_copy(update={"started_at": lost.started_at, "duration_s": lost.duration_s})


def _translate(wanted: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the names of the wanted devices as the daemon calls them.

    Raises:
        NoAnswerError: which of the daemon's devices is meant cannot be told.
    """
    limit = _limit(environment)
    if limit is None:
        yield from wanted
        return
    variable, entries = limit
    by_uuid = bool(entries) and all(
        re.match(r"(GPU|MIG)-", entry, re.IGNORECASE) for entry in entries
    )
    for name in wanted or [f"cuda:{place}" for place in range(max(1, len(entries)))]:
        numbered = re.fullmatch(r"[a-z]+(?::(\d+))?", name.strip().lower())
        if numbered is None or name.strip().lower() == CPU.name:  # a UUID, a PCI id, the CPU
            yield name
        elif not by_uuid:
            # Slurm's numbers are those of the node in a prolog, and those of the job's control
            # group in a job: which, cannot be told from here.
            raise NoAnswerError(
                f"{variable}={','.join(entries)} does not name GPUs by UUID, so which of the "
                "daemon's they are cannot be told"
            )
        elif numbered[1] is None:
            yield from entries
        elif int(numbered[1]) < len(entries):
            yield entries[int(numbered[1])]
        else:
            raise NoAnswerError(f"{variable} leaves no device {name!r}")


def _limit(environment: Mapping[str, str]) -> tuple[str, list[str]] | None:
    """The variable that limits what a process sees, and the GPUs that it names."""
    for variable in _VISIBLE:
        if variable in environment:
            value = environment[variable]
            return variable, [entry.strip() for entry in value.split(",") if entry.strip()]
    return None

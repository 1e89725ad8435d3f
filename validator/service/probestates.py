"""The catalogue as a daemon runs it: what is due when, and what counts now."""

import time
from collections.abc import Collection, Mapping
from datetime import datetime

from probes.catalog import BY_NAME, CATALOG
from probes.contract import Result, Status
from validator.service.api import ProbeOnDevice, ProbeState
from validator.service.entry import Pair, end_time
from validator.service.latest import Latest
from validator.service.schedule import Timing
from validator.settings.model import Settings


def timeout_s(name: str, settings: Settings) -> float:
    """A probe's deadline in seconds: its own, or that of the settings."""
    mine = settings.probes.get(name)
    return BY_NAME[name].timeout_s if mine is None or mine.timeout is None else mine.timeout


def probe_states(
    settings: Settings,
    latest: Latest,
    timings: Mapping[str, Timing],
    due: Mapping[str, datetime],
    running: Collection[str],
) -> list[ProbeState]:
    """Each probe of the catalogue, with its due time unless it runs, and its devices."""
    results = latest.results()
    # A fail that is kept of a device which no run can list is planned for none.
    planned = dict.fromkeys([*latest.planned, *results])
    states = []
    for spec in CATALOG:
        timing = timings.get(spec.name)
        mine = settings.probes.get(spec.name)
        states.append(
            ProbeState(
                name=spec.name,
                profile=spec.profile,
                needs=spec.needs,
                enabled=mine is None or mine.enabled,
                timeout_s=timeout_s(spec.name, settings),
                interval_s=spec.interval_s if timing is None else timing.interval_s,
                cron=None if timing is None else timing.cron,
                due_at=None if spec.name in running else due.get(spec.name),
                checks={f"{spec.name}.{check}": text for check, text in spec.promises.items()},
                devices=tuple(
                    _on_device(pair, results.get(pair))
                    for pair in planned
                    if pair.probe == spec.name
                ),
            )
        )
    return states


def _on_device(pair: Pair, result: Result | None) -> ProbeOnDevice:
    if result is None:
        return ProbeOnDevice(device=pair.device)
    at = end_time(result)
    return ProbeOnDevice(
        device=pair.device,
        status=result.status,
        reason=result.reason,
        summary=result.summary,
        ended_at=at,
        age_s=round(max(0.0, time.time() - at.timestamp()), 3),
        failed=_checks(result, "fail") if result.status == "fail" else (),
        left_out=_checks(result, "skip") if result.status in {"pass", "warn"} else (),
    )


def _checks(result: Result, status: Status) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.id for one in result.findings if one.status == status))

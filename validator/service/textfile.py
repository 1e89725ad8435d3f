"""A report as Prometheus text: a file for node_exporter's textfile collector.

The daemon's own families, as far as one run can know them: no counters, since a run has no
before; no timeouts and intervals, since whoever starts the run decides when the next one is.
No timestamps either: the collector refuses them and tells the file's age itself.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from validator.report import Report
from validator.service.latest import Latest
from validator.service.metrics import PREFIX, Exposition, Form, Shown, families

_OF_THE_DAEMON: Final = {
    f"{PREFIX}{name}"
    for name in (
        "probe_timeout_seconds",
        "probe_interval_seconds",
        "probe_runs",
        "probe_skips",
        "run_in_progress",
        "worker_restarts",
        "verified_seconds",
    )
}
_LAST_SUCCESS: Final = f"{PREFIX}probe_last_success_timestamp_seconds"


def render(report: Report) -> str:
    """The metrics of one report, in the text format that every collector reads."""
    latest = Latest()
    planned = [one.probe for one in report.results] + [one.probe for one in report.not_run]
    latest.limit(dict.fromkeys(planned, float("inf")))
    latest.accept(report)
    # An empty registry in place of this process's metrics, which end with it.
    exposition = Exposition(lambda: _of_one_run(latest, report), process=CollectorRegistry())
    return exposition.read(Form()).decode()


def _of_one_run(latest: Latest, report: Report) -> Iterator[Metric]:
    for family in families(latest, Shown(), report.tool):
        if family.name in _OF_THE_DAEMON:
            continue
        if family.name == _LAST_SUCCESS:
            # 0 says "never", and a run knows of itself alone: the series is there after a success.
            family.samples = [sample for sample in family.samples if sample.value]
        family.documentation = family.documentation.replace("last scheduled run", "last run")
        yield family

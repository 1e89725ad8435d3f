"""Made-up series, so that both sides of the scrape comparison serve as many."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily

_A_FAMILY = 50  # series, as a probe on 8 GPUs has


def padding(count: int) -> Iterator[GaugeMetricFamily]:
    """`count` series in families that look like ours: two labels, a HELP line, a float."""
    for first in range(0, count, _A_FAMILY):
        family = GaugeMetricFamily(
            f"bench_probe_{first}_seconds",
            "Made up for a benchmark. Cached from the last scheduled run.",
            labels=["probe", "device"],
        )
        for number in range(first, min(first + _A_FAMILY, count)):
            family.add_metric([f"probe_{number}", f"cuda:{number % 8}"], 1.7e9 + number)
        yield family

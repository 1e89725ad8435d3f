"""The other side: a bare prometheus_client server with as many series, rendered at each scrape."""

import signal
import sys
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from tests.benchmarks import SERIES
from tests.benchmarks.padding import padding


class Padding(Collector):
    """A custom collector over made-up families, made once."""

    def __init__(self) -> None:
        """Make them."""
        self._families = tuple(padding(SERIES))

    def collect(self) -> Iterator[Metric]:
        """Hand them out."""
        yield from self._families


def main(port: int) -> None:
    """Serve until SIGTERM."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Padding())
    ProcessCollector(registry=registry)
    start_http_server(port, "127.0.0.1", registry=registry)
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main(int(sys.argv[1]))

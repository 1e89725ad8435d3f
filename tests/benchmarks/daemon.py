"""Our side: the daemon as `serve` makes it, padded to as many series.

Started with a port and the seconds between runs; 0.1 s keeps a run in progress all the time.
"""

import asyncio
import sys
from itertools import chain

from probes.catalog import CATALOG
from tests.benchmarks import SERIES
from tests.benchmarks.padding import padding
from validator.service import logs
from validator.service.daemon import Daemon
from validator.service.listen import listen
from validator.service.metrics import Exposition, Form, series_count
from validator.service.server import hold
from validator.settings.loading import load


async def main(port: int, interval_s: float) -> int:
    """Serve until SIGTERM."""
    timetable = {"interval": interval_s, "jitter": 0}
    settings = load(flags={"schedule": {spec.name: timetable for spec in CATALOG}})
    logs.configure("error")
    daemon = Daemon(settings)
    padded = SERIES - series_count(await daemon.new_metrics(Form()))
    daemon._exposition = Exposition(lambda: chain(daemon._families(), padding(padded)))
    return await hold(daemon, listen([f"127.0.0.1:{port}"]))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]))))

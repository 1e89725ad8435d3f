"""The growth of a daemon's memory and descriptors an hour, under the load of a node in use."""

import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from tests.chaos.disturb import settings_text
from tests.chaos.invariants import Sample, slope_per_hour
from tests.chaos.life import Life, descriptors, free_port, rss_kib
from tests.chaos.telling import say
from tests.emulator import install

_EVERY_S: Final = 5.0  # between two samples, which are taken while no run is going on
_LOOK_S: Final = 0.1
#: Of the time, that is left out of the slope: caches fill in the beginning.
_WARM: Final = 0.25
_SCRAPERS: Final = 4


def run(seconds: float) -> int:
    """Let a daemon run often and be scraped; print what it held, and what that grew by."""
    samples: list[Sample] = []
    over = threading.Event()
    answers = [0] * _SCRAPERS
    errors = [0] * _SCRAPERS
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder, port = Path(name), free_port()
        config = folder / "settings.yaml"
        config.write_text(settings_text(port, folder), encoding="utf-8")
        with Life(config, port, {"PYTHONPATH": str(install())}) as life:
            life.wait_for("run_finished", 1, 120)

            def scrape(number: int) -> None:
                pages = ("/metrics", "/api/v1/report", "/readyz", "/api/v1/probes")
                while not over.wait(0.2):
                    answer = life.get(pages[number % len(pages)])
                    answers[number] += 1
                    errors[number] += answer.status not in {200, 503}

            threads = [threading.Thread(target=scrape, args=(n,)) for n in range(_SCRAPERS)]
            for one in threads:
                one.start()
            began, next_s = time.monotonic(), 0.0
            while (at_s := time.monotonic() - began) < seconds and life.process.poll() is None:
                if life.is_between_runs() and at_s >= next_s:
                    next_s = at_s + _EVERY_S
                    samples.append(Sample(at_s, rss_kib(life.pid), descriptors(life.pid)))
                time.sleep(_LOOK_S)
            over.set()
            for one in threads:
                one.join()
            runs = len(life.events("run_finished"))
            end = life.stop()
    warm = [one for one in samples if one.at_s >= _WARM * seconds]
    rss = slope_per_hour([(one.at_s, float(one.rss_kib)) for one in warm])
    open_more = slope_per_hour([(one.at_s, float(one.descriptors)) for one in warm])
    first, last = warm[0], warm[-1]
    say(f"{seconds:g} s, {runs} runs, {sum(answers)} answers, {sum(errors)} errors, end: {end}")
    say(
        f"RSS {first.rss_kib / 1024:.1f} to {last.rss_kib / 1024:.1f} MiB, "
        f"{rss / 1024:+.2f} MiB an hour; descriptors {first.descriptors} to {last.descriptors}, "
        f"{open_more:+.1f} an hour"
    )
    return 0 if end.code == 0 and not end.left and not sum(errors) else 1

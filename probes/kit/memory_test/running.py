"""Takes a device's memory, runs the checks in it, gives it back, and says what was seen."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from probes.contract import Measurement
from probes.kit import families
from probes.kit.memory_test import region, ways
from probes.kit.memory_test.observation import Observation
from probes.kit.memory_test.passes import Memory
from probes.kit.memory_test.trials import Steps, family


def observe(
    steps: Mapping[str, Steps],
    device: str,
    share: float,
    others: Callable[[], str],
    *,
    seed: int = 0,
    dwell_s: float = 0.0,
) -> dict[str, Any]:
    """Run each check in that share of the free memory; return the fields of an `Observation`.

    Args:
        steps: check -> what is written and read.
        device: whose memory.
        share: how much of what is free.
        others: is asked again and again who came to the device; the checks then give way.
        seed: of random patterns, 64 bits.
        dwell_s: how long memory is left to itself where that is tested.
    """
    way, why = ways.choose(device)
    taken = region.allocate(device, share)
    memory = Memory(device, taken, way, why, others, seed=seed, dwell_s=dwell_s)
    table = {check: family(check, each, memory) for check, each in steps.items()}
    seen = families.observe(table, device)
    return {
        **dict(seen),
        "coverage": memory.coverage(),
        "wrong": {check: tuple(each) for check, each in memory.wrong.items()},
        "busy": memory.gave_way,
        "seed": f"{seed:#x}" if seed else "",
    }


def measure(observation: Observation) -> Iterator[Measurement]:
    """Yield the bytes tested, of the free ones, and the rates of writing and checking."""
    coverage = observation.coverage
    yield Measurement(name="memory_tested_bytes", value=float(coverage.tested_bytes), unit="bytes")
    if coverage.free_bytes is not None:
        yield Measurement(
            name="memory_free_before_bytes", value=float(coverage.free_bytes), unit="bytes"
        )
    rates = {
        "write": (coverage.written_bytes, coverage.write_s),
        "check": (coverage.read_bytes, coverage.read_s),
    }
    for name, (size, seconds) in rates.items():
        if size and seconds:
            yield Measurement(
                name=f"memory_{name}_bytes_per_second",
                value=size / seconds,
                unit="bytes_per_second",
            )

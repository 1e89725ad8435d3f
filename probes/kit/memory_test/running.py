"""Takes a device's memory, runs the checks in it, gives it back, and says what was seen."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from probes.contract import MIB, Measurement
from probes.kit import families
from probes.kit.memory_test import cache, heat, region, ways
from probes.kit.memory_test.observation import Observation, busy
from probes.kit.memory_test.passes import Memory
from probes.kit.memory_test.trials import Steps, family
from probes.kit.memory_test.words import OWN_ADDRESS, WORD_BYTES
from probes.kit.tensors import synchronize

#: What is written and read to see how fast the memory is: more than a cache holds.
_TIMED_BYTES: Final = 512 * MIB

#: No index of a region: these words are none of the test's.
_NOWHERE: Final = 2**48

#: All is given up after so many times what it was thought to take.
_PATIENCE: Final = 2


@dataclass(frozen=True)
class Plan:
    """How a probe tests memory.

    Args:
        share: how much of what is free.
        passes: how often all checks together write or read each word.
        limit_s: how long that may take; a slow device is tested in part.
        seed: of random patterns, 64 bits.
        dwell_s: how long memory is left to itself where that is tested.
    """

    share: float
    passes: int
    limit_s: float
    seed: int = 0
    dwell_s: float = 0.0


def observe(
    steps: Mapping[str, Steps], device: str, plan: Plan, others: Callable[[], str]
) -> dict[str, Any]:
    """Run each check in a share of the free memory; return the fields of an `Observation`.

    Args:
        steps: check -> what is written and read.
        device: whose memory.
        plan: how much of it, and how.
        others: is asked again and again who came to the device; the checks then give way.
    """
    way, why = ways.choose(device)
    # Before the memory is taken: products need some too.
    warmth, cold = heat.make(device) if plan.dwell_s else (None, "")
    taken, less = _in_time(region.allocate(device, plan.share), device, way, plan)
    memory = Memory(
        *(device, taken, way, why, others),
        seed=plan.seed,
        dwell_s=plan.dwell_s,
        heat=warmth,
        cache_bytes=cache.cache_bytes(device),
        until_s=time.monotonic() + _PATIENCE * (plan.limit_s + 2 * plan.dwell_s),
        less=less,
    )
    table = {check: family(check, each, memory) for check, each in steps.items()}
    seen = families.observe(table, device)
    return {
        **dict(seen),
        "coverage": memory.coverage(),
        "wrong": {check: tuple(each) for check, each in memory.wrong.items()},
        "busy": busy(memory.who) if memory.who else "",
        "seed": f"{plan.seed:#x}" if plan.seed else "",
        "heat": f"{warmth.products} products of {warmth.name} meanwhile" if warmth else cold,
    }


def _in_time(
    taken: region.Region, device: str, way: ways.Way, plan: Plan
) -> tuple[region.Region, str]:
    """As much of a device's region as can be tested in time, and why the rest is not."""
    if torch.device(device).type == "cpu" or not taken.blocks:
        return taken, ""
    part = taken.blocks[0][: _TIMED_BYTES // WORD_BYTES]
    for _ in range(2):  # the first use of anything is slow
        synchronize(device)
        began_s = time.monotonic()
        way.write(part, _NOWHERE, OWN_ADDRESS)
        way.check(part, _NOWHERE, OWN_ADDRESS)
        pass_s = (time.monotonic() - began_s) / 2
    rate = len(part) * WORD_BYTES / max(pass_s, 1e-9)
    most = int(plan.limit_s * rate / plan.passes)
    if most >= taken.size_bytes:
        return taken, ""
    return taken.at_most(most), f"{plan.limit_s:.0f} s allow no more at {rate:.3g} bytes a second"


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

"""How a memory test is run: in time, in heat, and what it says of both."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from probes.catalog import MEMORY_FULL
from probes.kit.memory_test import cache, heat, running, ways
from probes.kit.memory_test.heat import Heat
from probes.kit.memory_test.observation import memory_finding
from probes.kit.memory_test.passes import Memory
from probes.kit.memory_test.region import Region
from probes.kit.memory_test.running import Plan
from probes.kit.memory_test.ways import ByTorch, Found
from probes.memory_full import probe as full
from probes.memory_pattern import probe as pattern

MIB = 2**20


class Clock:
    """A clock that goes on when something is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)


class Slow:
    """A way over memory of so many bytes a second; its first use takes a while."""

    name = "kernels"

    def __init__(self, clock: Clock, rate: float) -> None:
        self.clock, self.rate, self.first_s = clock, rate, 3.0

    def write(self, block: torch.Tensor, *_: Any, downwards: bool = False) -> None:
        """Takes its time, in either order."""
        assert not downwards
        self.clock.now_s += len(block) * 8 / self.rate + self.first_s
        self.first_s = 0.0

    def check(self, block: torch.Tensor, *_: Any) -> Found:
        """The same."""
        self.write(block)
        return Found(len(block), 0, {})


@pytest.mark.parametrize(
    ("rate", "tested"),
    [(1e12, 24), (26 * 24 * MIB / 100 + 1, 24), (26 * 12.5 * MIB / 100, 12), (1.0, 2)],
)
def test_a_slow_device_is_tested_in_part(
    rate: float, tested: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As much of it as the time allows, and why no more is told."""
    monkeypatch.setattr(running, "synchronize", lambda _: None)
    blocks = tuple(torch.zeros(MIB, dtype=torch.int64) for _ in range(3))
    whole, way = Region(blocks, 24 * MIB, 25 * MIB), Slow(Clock(monkeypatch), rate)
    part, less = running._in_time(whole, "cuda:0", way, Plan(0.97, 26, 100.0))

    assert part.size_bytes == tested * MIB
    assert part.wanted_bytes == 24 * MIB
    assert less.startswith("100 s allow no more at") == (tested < 24)


@pytest.mark.parametrize("probe", [pattern, full])
def test_the_passes_are_as_many_as_the_probe_says(
    probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each word is written and read so often; planted bits are no pass."""
    words = {"all": 0, "planted": 0}

    class Counting(ByTorch):
        def write(self, block: torch.Tensor, *rest: Any, **order: Any) -> None:
            words["all"] += len(block)
            super().write(block, *rest, **order)

        def check(self, block: torch.Tensor, *rest: Any) -> Found:
            words["all"] += len(block)
            return super().check(block, *rest)

    monkeypatch.setattr(ways, "choose", lambda device: (Counting(device), ""))
    families = {name: steps for name, steps in probe.FAMILIES.items() if name != "planted"}
    monkeypatch.setattr(probe, "FAMILIES", families)
    monkeypatch.setattr(full, "_DWELL_S", {"cpu": 0.01})
    observation = probe.observe("cpu")

    assert words["all"] * 8 == probe._PASSES * observation.coverage.tested_bytes
    assert observation.coverage.tested_bytes == 32 * MIB


def test_products_warm_the_device() -> None:
    """For as long as was asked, again and again, and how many is told."""
    warmth = Heat("cpu", torch.float32, side=16)
    began_s = time.monotonic()
    warmth.run(0.06)
    once = warmth.products
    warmth.run(0.02)

    assert 0.08 <= time.monotonic() - began_s < 5
    assert warmth.products > once > 10
    assert warmth.name == "16x16 float32"


def test_without_products_memory_rests_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A type that the device lacks, or no memory for it; only a sick device ends the probe."""
    assert heat.make("cpu") == (None, "the CPU is not heated")
    monkeypatch.setattr(heat, "synchronize", lambda _: None)
    monkeypatch.setattr(heat, "free_bytes", lambda _: 2 * heat.HEAT_BYTES)
    types: list[torch.dtype] = []

    def missing(_: str, dtype: torch.dtype) -> None:
        types.append(dtype)
        raise RuntimeError('"addmm_impl" not implemented for it')

    monkeypatch.setattr(heat, "Heat", missing)
    assert heat.make("cuda:0") == (None, 'no products: "addmm_impl" not implemented for it')
    assert types == [torch.float16, torch.float32]

    monkeypatch.setattr(heat, "free_bytes", lambda _: 2 * heat.HEAT_BYTES - 1)
    assert heat.make("cuda:0") == (None, "no products: 335544319 bytes are free")
    monkeypatch.setattr(heat, "free_bytes", lambda _: None)

    def sick(_: str) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(heat, "synchronize", sick)
    with pytest.raises(RuntimeError, match="launch failure"):
        heat.make("cuda:0")


def test_it_is_told_whether_memory_was_hot(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the finding of the check that leaves memory to itself, and in no other."""
    warmth = Heat("cpu", torch.float32, side=16)
    monkeypatch.setattr(heat, "make", lambda _: (warmth, ""))
    steps = {name: full.FAMILIES[name] for name in ("random", "retention")}
    fields = running.observe(steps, "cpu", Plan(0.5, 6, 9.0, seed=7, dwell_s=0.05), lambda: "")
    observation = full.Observation(**fields)
    hot, other = (
        memory_finding(f"memory_full.{name}", observation).message
        for name in ("retention", "random")
    )

    assert warmth.products > 1
    assert hot.endswith(f"; {warmth.products} products of 16x16 float32 meanwhile")
    assert "products" not in other


def test_memory_rests_without_heat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is waited."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    Memory("cpu", Region((), 0, None), ByTorch("cpu")).rest(0.25)

    assert slept == [0.25]


def test_products_take_what_the_catalogue_says() -> None:
    """Beside the memory that is tested."""
    assert MEMORY_FULL.optional_memory_bytes == heat.HEAT_BYTES


def test_how_much_caches_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's largest, a GPU's as torch tells it or more; unknown is 0."""
    for index, text in enumerate(("48K\n", "2048K\n", "32M\n", "odd\n", "")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(text)
    assert cache.cache_bytes("cpu", tmp_path) == 32 * MIB
    assert cache.cache_bytes("cpu", tmp_path / "none") == 0
    assert cache.cache_bytes("xpu:0") == 0

    told = SimpleNamespace(L2_cache_size=50 * MIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: told)
    assert cache.cache_bytes("cuda:0") == 50 * MIB
    del told.L2_cache_size
    assert cache.cache_bytes("cuda:0") == 128 * MIB
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert cache.cache_bytes("cuda:0") == 256 * MIB

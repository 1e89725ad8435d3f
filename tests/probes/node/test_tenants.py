"""Who uses a GPU and how hard it works: the real pynvml with a fake library, in a child process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from probes.node import tenants
from probes.node.tenants import GpuProcess, Use
from tests import fakes

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
UUIDS = tuple(f"GPU-00010203-0405-0607-0809-0a0b0c0d0e0{index}" for index in range(2))

#: Prints two answers about the GPUs that are named, a line each, as a watch or as two readings.
PROGRAM: Final = """
import sys
from probes.node import tenants
class Enough(Exception): pass
told = []
def tell(use):
    told.append(use)
    print(use.model_dump_json())
    if len(told) == 2: raise Enough
if sys.argv[1] == "watch":
    try: tenants.watch(sys.argv[2], 0.01, tell)
    except Enough: pass
else:
    for use in tenants.read(sys.argv[2:]).values(): print(use.model_dump_json())
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fake drivers in it."""
    return fakes.build(tmp_path_factory.mktemp("drivers"))


def answers(libraries: Path, *argv: str, **environment: str | int) -> list[Use]:
    """What is told in a child that loads the fake library."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *argv],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(libraries),
            **{key: str(value) for key, value in environment.items()},
        },
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [Use.model_validate(json.loads(line)) for line in done.stdout.splitlines()]


def test_everything_is_told(libraries: Path) -> None:
    """Of each GPU that NVML knows, in base units; those that compute and those that draw, once."""
    told = answers(
        libraries,
        *("read", *UUIDS, "GPU-0"),
        FAKE_NVML_COUNT=2,
        FAKE_NVML_PROCESSES="self,7,5",
        FAKE_NVML_GRAPHICS="7,9:300",
        FAKE_NVML_USE=80,
    )
    sizes = {5: 1, 7: 1, 9: 300}

    assert (
        told
        == [
            Use(
                processes=tuple(
                    GpuProcess(pid=pid, memory_bytes=MIB * n) for pid, n in sizes.items()
                ),
                utilization_percent=80,
                memory_used_bytes=(16384 - 384 - 15000) * MIB,
                power_w=345.6,
                clock_mhz=1755,
                temperature_c=told[0].temperature_c,
            )
        ]
        * 2
    )


@pytest.mark.parametrize("old", [0, 1])
def test_a_watch_tells_again_and_again(libraries: Path, old: int) -> None:
    """An older driver lists the processes in an older layout, and counts no memory apart."""
    told = answers(
        libraries, "watch", UUIDS[0], FAKE_NVML_PROCESSES="7", FAKE_NVML_OLD=old, FAKE_NVML_COUNT=1
    )

    assert [use.processes for use in told] == [(GpuProcess(pid=7, memory_bytes=MIB),)] * 2
    assert (told[0].memory_used_bytes is None) == bool(old)


@pytest.mark.parametrize(
    "steering",
    [{"FAKE_NVML_INIT": 9}, {"FAKE_NVML_REFUSES": "nvmlDeviceGetHandleByUUID"}],
)
def test_without_a_driver_or_a_gpu_nothing_is_told(
    libraries: Path, steering: dict[str, int | str]
) -> None:
    """A watch ends by itself."""
    for how in ("read", "watch"):
        assert answers(libraries, how, UUIDS[0], **steering) == []


@pytest.mark.parametrize(
    ("graphics", "compute", "pids"),
    [
        ("7:40,8:215", "", ()),  # Xorg and gnome-shell
        ("7:40,8:216", "", (7, 8)),
        ("7:40", "self", ()),
        ("7:?", "", (7,)),
        ("7:40", "7", (7,)),  # it draws and computes
        ("7:40", "9", (9,)),
    ],
)
def test_a_small_context_for_drawing_is_no_tenant(
    libraries: Path, graphics: str, compute: str, pids: tuple[int, ...]
) -> None:
    """A display server is there for ever; what computes, draws much or may do so counts."""
    (use,) = answers(
        libraries,
        *("read", UUIDS[0]),
        FAKE_NVML_PROCESSES=compute,
        FAKE_NVML_GRAPHICS=graphics,
        FAKE_NVML_COUNT=1,
    )

    assert tuple(one.pid for one in use.processes or ()) == pids


def test_who_computes_may_be_unknown(libraries: Path) -> None:
    """Those that draw are not all then."""
    (use,) = answers(
        libraries,
        *("read", UUIDS[0]),
        FAKE_NVML_REFUSES="nvmlDeviceGetComputeRunningProcesses_v2",
        FAKE_NVML_OLD=1,
        FAKE_NVML_GRAPHICS="7",
    )

    assert use.processes is None


def test_without_pynvml(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its module is not there."""
    monkeypatch.setattr(tenants, "pynvml", None)

    assert tenants.read(UUIDS) == {}


@pytest.fixture
def server() -> Iterator[int]:
    """The id of a process that is called as the server of MPS."""
    program = "open('/proc/self/comm', 'w').write('nvidia-cuda-mps-server'); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def test_of_mps_its_clients_are_told(libraries: Path, server: int) -> None:
    """NVML lists the server among those that compute, and its clients apart from them."""
    told = [
        answers(libraries, "read", UUIDS[0], FAKE_NVML_PROCESSES=computes, FAKE_NVML_MPS=clients)
        for computes, clients in (
            (server, ""),
            (server, "7,8"),
            (f"{server},5", "7"),
            ("4000001", "7"),  # in a container: one of those that compute is the server
            ("4000001", ""),  # or that is a tenant
        )
    ]

    assert [[each.pid for each in use.processes or ()] for (use,) in told] == [
        [],
        [7, 8],
        [5, 7],
        [7],
        [4000001],
    ]

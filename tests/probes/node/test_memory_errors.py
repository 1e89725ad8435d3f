"""What a GPU counts of its memory's errors, as NVML says."""

import os
from typing import Any

import pytest

from probes.kit import breadcrumb
from probes.node import cuda_driver, memory_errors, nvml
from probes.node.cuda_driver import CudaDriver, DriverDevice
from probes.node.memory_errors import Counters, NoBoard, counters_finding, opened
from validator.engine.breadcrumb import ask_to_tell, shared_page

QUIET = Counters(
    corrected=3,
    uncorrected=0,
    remapped_corrected=0,
    remapped_uncorrected=1,
    remap_pending=False,
    remap_failed=False,
)


class Management:
    """NVML's functions, of one GPU, as pynvml has them."""

    class NVMLError(Exception):
        """Any error."""

    class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818 - pynvml's name
        """This board has none."""

    NVMLError_NoPermission = NVMLError_FunctionNotFound = NVMLError_NotSupported

    def __init__(self) -> None:
        self.errors: list[int] | None = [3, 0]
        self.rows: list[int] | None = [0, 1, 0, 0]
        self.starts = True
        self.asked: list[object] = []
        self.ended = 0

    def nvmlInit(self) -> None:  # noqa: N802
        """Start it."""
        if not self.starts:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlShutdown(self) -> None:  # noqa: N802
        """End it."""
        self.ended += 1

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> str:  # noqa: N802
        """A handle."""
        self.asked.append(uuid)
        return "handle"

    def nvmlDeviceGetMemoryErrorCounter(self, _: str, kind: int, since: int, place: int) -> int:  # noqa: N802
        """Errors of the device's memory since the driver started."""
        if self.errors is None or (since, place) != (0, 2):
            raise self.NVMLError_NotSupported
        return self.errors[kind]

    def nvmlDeviceGetRemappedRows(self, _: str) -> list[int]:  # noqa: N802
        """Corrected, uncorrected, pending, failed."""
        if self.rows is None:
            raise self.NVMLError_NotSupported
        return self.rows


@pytest.fixture
def management(monkeypatch: pytest.MonkeyPatch) -> Management:
    """NVML and a driver with two devices."""
    made = Management()
    monkeypatch.setattr(nvml, "pynvml", made)
    monkeypatch.setattr(memory_errors, "pynvml", made)
    devices = tuple(DriverDevice(index=i, uuid=f"GPU-{i}") for i in range(2))
    monkeypatch.setattr(cuda_driver, "read", lambda: CudaDriver(loaded=True, devices=devices))
    return made


def test_the_counters_of_a_gpu(management: Management) -> None:
    """Those of the device's own memory, by its UUID; NVML is ended afterwards."""
    with opened("cuda:1") as board:
        assert board.counters() == QUIET
        assert management.ended == 0

    assert management.asked == [b"GPU-1"]
    assert management.ended == 1


def test_what_is_not_supported_is_unknown(management: Management) -> None:
    """Nothing is counted: the check does not apply."""
    management.errors = management.rows = None
    with opened("cuda") as board:
        counters = board.counters()

    assert counters == Counters()
    assert counters_finding("x.y", counters, counters).status == "skip"


@pytest.mark.parametrize("device", ["cpu", "xpu:0", "cuda:7"])
def test_a_device_that_nvml_does_not_know(management: Management, device: str) -> None:
    """Nobody is seen there."""
    with opened(device) as board:
        assert isinstance(board, NoBoard)
        assert board.others() == ""


def test_without_nvml(management: Management, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not start, or its module is not there."""
    management.starts = False
    with opened("cuda:0") as board:
        assert isinstance(board, NoBoard)
    monkeypatch.setattr(memory_errors, "pynvml", None)
    with opened("cuda:0") as board:
        assert isinstance(board, NoBoard)


@pytest.mark.usefixtures("management")
def test_the_supervisor_says_who_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is counted here: a process on the GPU may be one of ours, or one that looks."""
    monkeypatch.setattr(breadcrumb, "_CURRENT", breadcrumb._Breadcrumb())
    page = shared_page()
    assert page is not None
    breadcrumb.use_page(page)
    with opened("cuda:0") as board, opened("cpu") as none:
        before = board.others(), none.others()
        ask_to_tell(page)
        breadcrumb.operation("goes on")
        after = board.others(), none.others()
    os.close(page)

    assert before == ("", "")
    assert after == ("others came to it",) * 2


@pytest.mark.parametrize(
    ("changes", "status", "action"),
    [
        ({}, "pass", "none"),
        ({"corrected": 4}, "warn", "none"),
        ({"remapped_corrected": 1}, "warn", "none"),
        ({"remap_pending": True}, "warn", "reset_gpu"),
        ({"uncorrected": 1}, "fail", "drain"),
        ({"remapped_uncorrected": 2, "remap_pending": True}, "fail", "drain"),
        ({"remap_failed": True}, "fail", "drain"),
        ({"corrected": 0}, "pass", "none"),
        ({"uncorrected": None}, "skip", "none"),
        ({"uncorrected": None, "remap_failed": True}, "fail", "drain"),
        (dict.fromkeys(dict(QUIET)), "skip", "none"),
    ],
)
def test_what_rose(changes: dict[str, Any], status: str, action: str) -> None:
    """An error that was corrected is a warning, one that was not a failure; totals are neither.

    A counter that is not told any more does not stand still: the GPU may be lost.
    """
    finding = counters_finding("x.y", QUIET, QUIET.model_copy(update=changes))

    assert (finding.status, finding.action) == (status, action)
    told = [name for name, value in changes.items() if value is not None or status == "skip"]
    assert all(name in finding.message for name in told) or status == "pass"

"""What a worker's survey says is what a report can hold: two sides of one interface."""

import json
from typing import Any

import pytest
import torch

from probes.node import cuda_driver, nvml, survey, tenants
from probes.node.cuda_driver import CudaDriver, DriverDevice
from probes.node.nvml import Nvml, NvmlGpu
from probes.node.tenants import GpuProcess, Use
from validator.report import Device, Environment


def received() -> dict[str, Any]:
    """A survey after its way through the worker's pipe."""
    answer: dict[str, Any] = json.loads(json.dumps(survey.take()))
    return answer


def test_this_machine_fits() -> None:
    """Environment and devices of this machine validate, closed models as they are."""
    taken = received()
    environment = Environment.model_validate(taken["environment"])

    assert all(Device.model_validate(device).name for device in taken["devices"])
    assert environment.torch == str(torch.__version__)
    assert Environment.model_fields.keys() == taken["environment"].keys()
    assert all(isinstance(text, str) for text in taken["hardware"])


@pytest.mark.parametrize("known", [True, False], ids=["all known", "nothing known"])
def test_a_gpu_node_fits(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """A device validates field by field, whether all of it is known or only that it is there."""
    driver = CudaDriver(devices=(DriverDevice(index=0, uuid="GPU-1", capability=(9, 0)),))
    gpu = NvmlGpu(index=0, uuid="GPU-1", process_count=1, compute_mode="default")
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    monkeypatch.setattr(survey, "accelerator_type", lambda: "cuda")
    monkeypatch.setattr(survey, "device_count", lambda _: 1)
    monkeypatch.setattr(cuda_driver, "read", lambda: driver if known else CudaDriver())
    monkeypatch.setattr(nvml, "read", lambda: Nvml(gpus=(gpu,)) if known else Nvml())
    use = Use(processes=(GpuProcess(pid=7, memory_bytes=1 << 30),), utilization_percent=80)
    monkeypatch.setattr(tenants, "read", lambda uuids: dict.fromkeys(uuids, use))
    (listed,) = received()["devices"]
    device = Device.model_validate(listed)

    assert Device.model_fields.keys() == listed.keys()
    assert (device.name, device.type, device.index) == ("cuda:0", "cuda", 0)
    assert device.uuid == ("GPU-1" if known else None)
    assert device.capability == ("9.0" if known else None)
    assert [each.pid for each in device.processes] == ([7] if known else [])
    assert device.utilization_percent == (80 if known else None)

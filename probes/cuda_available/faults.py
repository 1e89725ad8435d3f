"""What must trip each check of this probe: a driver that does not start, wrong GPUs."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.pretended import (
    COMPAT_UNSUPPORTED,
    DRIVER_API,
    DRIVER_UPGRADED,
    STUB_FOUND,
    event_of,
    on_node,
)

_GIB: Final = 1024**3

_TORCH_PREFIX: Final = (
    "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
    "NumCudaDevices() that might have already set an error? Error "
)

_UNKNOWN_TEXT: Final = (
    "CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env "
    "variable CUDA_VISIBLE_DEVICES after program start. Setting the available devices to be zero."
)

#: Code of cuInit -> its name, what torch then raises, and the event with its source.
_STARTS: Final[dict[int, tuple[str, str, Event]]] = {
    3: (
        "CUDA_ERROR_NOT_INITIALIZED",
        "CUDA driver initialization failed, you might not have a CUDA gpu.",
        event_of("MIG is on without an instance, or the driver is broken", "98885"),
    ),
    34: (
        "CUDA_ERROR_STUB_LIBRARY",
        f"{_TORCH_PREFIX}34: CUDA driver is a stub library",
        STUB_FOUND,
    ),
    46: (
        "CUDA_ERROR_DEVICE_UNAVAILABLE",
        f"{_TORCH_PREFIX}46: CUDA-capable device(s) is/are busy or unavailable",
        event_of("a device that says busy though nobody uses it", DRIVER_API),
    ),
    802: (
        "CUDA_ERROR_SYSTEM_NOT_READY",
        f"{_TORCH_PREFIX}802: system not yet initialized",
        event_of("the fabric manager does not run", "35710"),
    ),
    803: (
        "CUDA_ERROR_SYSTEM_DRIVERDRIVER_UPGRADED",
        f"{_TORCH_PREFIX}803: system has unsupported display driver / cuda driver combination",
        event_of(
            "libraries of the image shadow the driver's",
            "https://github.com/NVIDIA/nvidia-docker/issues/1256",
        ),
    ),
    804: (
        "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
        f"{_TORCH_PREFIX}804: forward compatibility was attempted on non supported HW",
        COMPAT_UNSUPPORTED,
    ),
    999: (
        "CUDA_ERROR_UNKNOWN",
        _UNKNOWN_TEXT,
        event_of("nvidia-uvm is missing, or the machine was suspended", "49327"),
    ),
}


def _failed_start(code: int, name: str, text: str) -> dict[str, Any]:
    return {
        "driver.init_code": code,
        "driver.init_name": name,
        "driver.device_count": None,
        "driver.devices": [],
        "torch.error": text,
        "torch.available": False,
    }


_CODES: Final = tuple(
    on_node(
        f"cuda.error_{code}", "driver_starts torch_starts", event, _failed_start(code, name, text)
    )
    for code, (name, text, event) in _STARTS.items()
)

_UNKNOWN_START: Final = _failed_start(999, "CUDA_ERROR_UNKNOWN", _STARTS[999][1])
_CLOSED_NODES: Final = {
    f"nodes./dev/{name}": "EPERM: Operation not permitted"
    for name in ("nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1")
}
_TOO_OLD: Final = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: "
    "http://www.nvidia.com/Download/index.aspx"
)
_LOST_GPU: Final = event_of(
    "a GPU that has fallen off the bus",
    "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1151",
)
_NODES_LOST: Final = event_of(
    "a container that lost access after `systemctl daemon-reload`",
    "https://github.com/NVIDIA/nvidia-container-toolkit/issues/48",
)
_DISAGREE: Final = event_of("torch, driver and NVML see different devices", "102715")
_IDENTITY: Final = event_of("a device that is not the one it is said to be", "23544")
_BAD_KERNEL: Final = event_of("a first kernel that is wrong, zero or raises", "57347")
_MEMORY: Final = event_of(
    "memory that a lost process still holds", "https://docs.pytorch.org/docs/stable/notes/cuda.html"
)

_GPUS: Final = (
    on_node(
        "node.lost_access",
        "device_nodes",
        _NODES_LOST,
        {
            **_UNKNOWN_START,
            **_CLOSED_NODES,
            "nvml": {"error": "Failed to initialize NVML: Unknown Error"},
        },
        reason="lost_access",
    ),
    on_node(
        "node.without_uvm",
        "device_nodes torch_starts",
        _STARTS[999][2],
        {**_UNKNOWN_START, "nodes./dev/nvidia-uvm": "ENOENT: No such file or directory"},
    ),
    on_node(
        "node.driver_too_old",
        "torch_starts",
        event_of(
            "a driver that is older than the wheel's CUDA",
            "https://github.com/weaviate/Verba/issues/72",
        ),
        {"driver.driver_version": 11040, "torch.error": _TOO_OLD, "torch.available": False},
    ),
    on_node(
        "node.nvml_mismatch",
        "nvml_answers",
        DRIVER_UPGRADED,
        {"nvml": {"error": "Failed to initialize NVML: Driver/library version mismatch"}},
    ),
    on_node(
        "node.gpu_lost",
        "nvml_answers",
        _LOST_GPU,
        {"nvml.gpus.1.error": "nvmlDeviceGetMemoryInfo: GPU is lost"},
    ),
    on_node(
        "node.third_gpu_lost",
        "counts_agree",
        _LOST_GPU,
        {"nvml.gpus.2": {"index": 2, "error": "GPU is lost"}},
    ),
    on_node(
        "node.gpus_gone_from_the_bus",
        "all_gpus",
        _LOST_GPU,
        {
            "pci.2": {"address": "0000:2f:00.0", "model": 0x2330, "driver": "nvidia", "minor": 2},
            "nodes./dev/nvidia2": "EIO: Input/output error",
        },
    ),
    on_node(
        "node.gpu_that_no_driver_took",
        "all_gpus",
        event_of(
            "a GPU that the driver could not initialise",
            "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1151",
        ),
        {"pci.2": {"address": "0000:2f:00.0", "model": 0x2330}},
    ),
    on_node(
        "node.mig_without_an_instance",
        "mig_instances",
        event_of(
            "MIG is on, and the instances were lost with a reboot",
            "https://docs.nvidia.com/datacenter/tesla/mig-user-guide/",
        ),
        {"nvml.gpus.1.mig_enabled": True},
    ),
    on_node("node.torch_counts_one", "counts_agree", _DISAGREE, {"torch.device_count": 1}),
    on_node("node.driver_counts_one", "counts_agree", _DISAGREE, {"driver.device_count": 1}),
    on_node(
        "node.fewer_than_promised",
        "enough_gpus",
        event_of(
            "fewer GPUs than the node should have",
            "https://imbue.com/research/70b-infrastructure/",
        ),
        {},
        promised_gpus=8,
    ),
    on_node(
        "node.unavailable",
        "is_available",
        event_of("is_available() that says no while the back-end works", "85951"),
        {"torch.available": False},
    ),
    on_node(
        "node.available_but_dead",
        "is_available torch_starts",
        event_of("is_available() by NVML that says yes while CUDA cannot start", "85951"),
        {**_UNKNOWN_START, "torch.available": True},
    ),
    on_node(
        "node.bad_visible_devices",
        "visible_devices",
        event_of("an entry of CUDA_VISIBLE_DEVICES that is no device", "23544"),
        {"variables.CUDA_VISIBLE_DEVICES": "0,1,9"},
    ),
    on_node(
        "node.no_code_warning",
        "torch_starts",
        event_of("a GPU that the build has no code for", "81883"),
        {"torch.warning": "the GPU is not compatible with the current PyTorch installation."},
    ),
    on_node(
        "node.accelerator_counts_none",
        "accelerator_api",
        event_of(
            "torch.accelerator and the device's own interface disagree",
            "https://docs.pytorch.org/docs/stable/accelerator.html",
        ),
        {"accelerator.device_count": 0},
    ),
    on_node(
        "node.accelerator_raises",
        "accelerator_api",
        event_of(
            "torch.accelerator raises", "https://docs.pytorch.org/docs/stable/accelerator.html"
        ),
        {"accelerator.error": "invalid device ordinal"},
    ),
    on_node("node.other_name", "identity", _IDENTITY, {"torch.name": "NVIDIA A100-SXM4-80GB"}),
    on_node("node.other_capability", "identity", _IDENTITY, {"torch.major": 8}),
    on_node(
        "node.other_address", "identity", _IDENTITY, {"nvml.gpus.1.pci_bus_id": "0000:0f:00.0"}
    ),
    on_node(
        "node.half_the_memory",
        "memory_size",
        event_of(
            "a GPU that lost half of its memory", "https://docs.nvidia.com/deploy/xid-errors/"
        ),
        {"torch.total_memory": 40 * _GIB},
    ),
    on_node(
        "node.memory_leaked", "memory_free", _MEMORY, {"nvml.gpus.1.memory_free_bytes": _GIB // 4}
    ),
    on_node(
        "node.compute_prohibited",
        "compute_mode",
        event_of(
            "a compute mode that keeps processes out",
            "https://docs.nvidia.com/deploy/mps/",
        ),
        {"nvml.gpus.1.compute_mode": "prohibited"},
    ),
    on_node(
        "node.slow_first_kernel",
        "first_kernel",
        event_of("a first kernel that is compiled for minutes", "136951"),
        {"torch.first_kernel_s": 300.0},
    ),
    *(
        on_node(
            f"node.kernel_{spoil}",
            "kernel",
            _BAD_KERNEL,
            {},
            Injection("operations.wrong", {"operators": (operator,), "spoil": spoil}),
        )
        for operator, spoil in (
            ("add", "zeros"),
            ("add", "one_bit"),
            ("add", "one_a_warp"),
            ("add", "swapped"),
            ("add", "nan"),
            ("sum", "garbage"),
        )
    ),
    on_node(
        "node.kernel_raises",
        "kernel",
        event_of("no kernel image is available for execution on the device", "31285"),
        {},
        Injection(
            "operations.raises",
            {
                "operators": ("add",),
                "text": "CUDA error: no kernel image is available for execution on the device",
            },
        ),
    ),
    Fault(
        name="node.cpu_wheel",
        kind="environment",
        where="host",
        event=event_of("a resolver picked the CPU build on a GPU node", "28111"),
        inject=(
            Injection(
                "node.pretends",
                {
                    "changes": {
                        "torch.cuda": None,
                        "torch.built": False,
                        "torch.available": False,
                        "torch.device_count": 0,
                        "torch.error": "Torch not compiled with CUDA enabled",
                        "torch.arch_flags": "",
                        "accelerator.type": "",
                        "accelerator.available": False,
                        "accelerator.device_count": 0,
                    }
                },
            ),
        ),
        trips=("torch_version.build_kind", "cuda_available.enough_gpus"),
    ),
    Fault(
        name="node.dead_driver",
        kind="environment",
        where="host",
        event=event_of("GPUs on the bus, and a driver that lists none", DRIVER_API),
        inject=(
            Injection(
                "node.pretends",
                {
                    "changes": {
                        **_failed_start(100, "CUDA_ERROR_NO_DEVICE", "No CUDA GPUs are available"),
                        "torch.device_count": 0,
                    }
                },
            ),
        ),
        trips=("cuda_available.enough_gpus", "cuda_available.torch_starts"),
    ),
)

FAULTS: Final[tuple[Fault, ...]] = (*_CODES, *_GPUS)

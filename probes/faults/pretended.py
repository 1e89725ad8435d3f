"""Helpers to define faults of the simulated node: two GPUs with some values changed."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection

_PYTORCH: Final = "https://github.com/pytorch/pytorch/issues"
DRIVER_API: Final = "https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html"


def event_of(text: str, source: str) -> Event:
    """An event; `source` is a URL or the number of a PyTorch issue."""
    return Event(text, source if source.startswith("http") else f"{_PYTORCH}/{source}")


DRIVER_UPGRADED: Final = event_of(
    "the driver was upgraded under a running node",
    "https://github.com/NVIDIA/nvidia-container-toolkit/issues/394",
)
STUB_FOUND: Final = event_of("the toolkit's stub of libcuda is found first", "35418")
COMPAT_UNSUPPORTED: Final = event_of(
    "a compat library on hardware that has no forward compatibility",
    "https://github.com/NVIDIA/nvidia-docker/issues/1515",
)


def on_node(
    name: str,
    checks: str,
    event: Event,
    changes: dict[str, Any],
    *more: Injection,
    **fields: Any,
) -> Fault:
    """A fault of the simulated node: `changes` are new values in its table, by path."""
    probe = "torch_version" if fields.get("where") == "host" else "cuda_available"
    return Fault(
        name=name,
        kind="environment",
        event=event,
        inject=(Injection("node.pretends", {"changes": changes}), *more),
        trips=tuple(each if "." in each else f"{probe}.{each}" for each in checks.split()),
        **{"where": "node", **fields},
    )

"""The probe's cost, its schedule and the promise of each check, without importing torch."""

from typing import Final

from probes.contract import BITS, MIB, ProbeSpec

SPEC: Final = ProbeSpec(
    name="device_transfer",
    profile="quick",
    needs="device",
    timeout_s=60,
    interval_s=300,
    memory_bytes=256 * MIB,
    memory_measured="NVIDIA H200, torch 2.11.0+cu130",
    checks={
        "first_copy": "the process's first copies arrive whole, before any warm-up",
        "scalars": "item() and tolist() read the numbers that the device holds",
        "device_pattern": "the device makes the integers that copies are held against, and sees "
        "one wrong bit",
        "host_to_device_sizes": "every size and alignment arrives whole on the device, and "
        "nothing beside it is written",
        "host_to_device_dtypes": "every bit of every dtype arrives on the device",
        "host_to_device_layouts": "views of every kind arrive in order on the device",
        "host_to_device_converts": "to(device, dtype) moves to the device and converts right",
        "device_to_host_sizes": "every size and alignment arrives whole on the host, and nothing "
        "beside it is written",
        "device_to_host_dtypes": "every bit of every dtype arrives on the host",
        "device_to_host_layouts": "views of every kind arrive in order on the host",
        "device_to_host_converts": "to('cpu', dtype) moves to the host and converts right",
        "device_to_device_sizes": "every size and alignment is copied whole on the device, and "
        "nothing beside it is written",
        "device_to_device_dtypes": "every bit of every dtype is copied on the device",
        "device_to_device_layouts": "views of every kind are copied in order on the device",
        "device_to_device_converts": "to(dtype) on the device converts right",
        "same_device": "to(same device) is the tensor itself, and a copy asked for is a copy",
        "to_device_moves": "to(device) is a copy there, and the source stays as it was",
        "to_host_copies": "cpu() and numpy(force=True) of a device are copies",
        "pinned_shares": "pinned memory is NumPy's too, and a write through it arrives",
        "host_to_device_pinned": "pinned, non-blocking copies have arrived after their event",
        "device_to_host_pinned": "non-blocking copies into pinned memory have arrived after "
        "their event",
        "both_at_once": "copies in both directions at the same time arrive whole",
        "integrity_sum": "whole buffers keep their weighted sum and XOR, which see swapped words",
    },
    certain=dict.fromkeys(
        (
            *("first_copy", "device_pattern", "same_device", "to_device_moves", "to_host_copies"),
            *("host_to_device_sizes", "host_to_device_dtypes", "host_to_device_layouts"),
            *("device_to_host_sizes", "device_to_host_dtypes", "device_to_host_layouts"),
            *("device_to_device_sizes", "device_to_device_dtypes", "device_to_device_layouts"),
            *("pinned_shares", "host_to_device_pinned", "device_to_host_pinned", "both_at_once"),
            "integrity_sum",
        ),
        BITS,
    ),
)

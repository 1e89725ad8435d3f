"""What to do about a direction whose copies arrive wrong."""

from typing import Final

_LINK: Final = (
    "repeat on another GPU; check the PCIe link (`lspci -vv`, `dmesg | grep -iE 'aer|xid'`) and "
    "the IOMMU setting, then reseat the GPU"
)

#: What to do, by the way that the operations of a check go.
_HINTS: Final = {
    "host_to_device": f"copies into the device arrive wrong: {_LINK}",
    "device_to_host": f"copies out of the device arrive wrong: {_LINK}",
    "device_to_device": "copies or integers on the device itself are wrong: read its ECC counters "
    "(`nvidia-smi -q -d ECC`) and repeat on another GPU",
    "every": f"the operations and the checks beside this one name the direction: {_LINK}",
}
ON_CPU: Final = "replace this build of torch; look for a package that patches torch at import"

#: The way of the checks that are not named after theirs.
_WAYS: Final = {
    "first_copy": "every",
    "scalars": "device_to_host",
    "device_pattern": "device_to_device",
    "same_device": "device_to_device",
    "to_device_moves": "host_to_device",
    "to_host_copies": "device_to_host",
    "pinned_shares": "host_to_device",
    "both_at_once": "every",
    "integrity_sum": "every",
}


def hint(check: str) -> str:
    """What to do when that check fails on a device."""
    return _HINTS[_WAYS.get(check, check.rpartition("_")[0])]

"""The hint for a direction whose copies arrive wrong."""

from typing import Final

_LINK: Final = (
    "repeat on another GPU; check the PCIe link (`lspci -vv`, `dmesg | grep -iE 'aer|xid'`) and "
    "the IOMMU setting, then reseat the GPU"
)

#: Direction of a check's copies -> hint.
_HINTS: Final = {
    "host_to_device": f"copies into the device arrive wrong: {_LINK}",
    "device_to_host": f"copies out of the device arrive wrong: {_LINK}",
    "device_to_device": "copies or integers on the device itself are wrong: read its ECC counters "
    "(`nvidia-smi -q -d ECC`) and repeat on another GPU",
    "every": f"the operations and the checks beside this one name the direction: {_LINK}",
}
ON_CPU: Final = "replace this build of torch; look for a package that patches torch at import"

#: Check -> direction, where the check's name does not begin with its direction.
_DIRECTIONS: Final = {
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
    """The hint for when that check fails on a device; not for the CPU."""
    return _HINTS[_DIRECTIONS.get(check, check.rpartition("_")[0])]

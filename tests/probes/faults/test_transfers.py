"""Copies that a fault spoils on a device apart from the host trip the checks of their direction."""

from typing import Any

import pytest
from torch.utils import backend_registration

from probes.faults.table import BY_NAME
from tests.probes.faults.programs import output_of

pytestmark = pytest.mark.slow

#: A direction with every pattern, the others with the one that says which direction it is.
CHOSEN = (
    *("host_to_device.one_bit", "device_to_host.one_bit", "device_to_device.one_bit"),
    *("host_to_device.zeros", "host_to_device.short", "device_to_host.byte_order"),
    *("device_to_host.shifted", "device_to_host.swapped", "device_to_host.one_bit.large"),
    *("device_to_device.one_bit.float16", "device_to_device.beside"),
    *("host_to_device.one_bit.first", "host_to_device.moves_the_source"),
    "device_to_host.read_too_early",
)


@pytest.fixture(scope="module")
def tripped() -> dict[str, Any]:
    """What each fault trips, in forked children of one process that has the device."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch cannot have a device in Python")
    return output_of("on_fake_device", *CHOSEN)


def test_a_sound_device_trips_nothing(tripped: dict[str, Any]) -> None:
    """The control."""
    assert tripped["sound"] == []


@pytest.mark.parametrize("name", CHOSEN)
def test_the_bad_direction_trips_its_checks(tripped: dict[str, Any], name: str) -> None:
    """Every check that must trip does, and none of another direction."""
    assert set(BY_NAME[name].trips) <= set(tripped[name])
    assert not set(BY_NAME[name].spares) & set(tripped[name])

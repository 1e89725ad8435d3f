"""The pretended node: its changes reach what they name, and a path that is not there is refused."""

import pytest

from probes.faults.inject.node import NODE, edited
from probes.faults.table import FAULTS


def test_a_change_changes_its_place_alone() -> None:
    """One answer is another; the sound node stays what it is."""
    node = edited({"nvml.gpus.1.compute_mode": "prohibited"})

    assert node["nvml"]["gpus"][1].pop("compute_mode") == "prohibited"
    assert NODE["nvml"]["gpus"][1]["compute_mode"] == "default"
    assert node["nvml"]["gpus"][0] == NODE["nvml"]["gpus"][0]


def test_a_list_may_grow() -> None:
    """A third GPU is added, and no place is skipped."""
    assert len(edited({"nvml.gpus.2": {"index": 2}})["nvml"]["gpus"]) == 3


@pytest.mark.parametrize("path", ["torch.versoin", "hardware.vendor", "nothing"])
def test_a_path_that_is_not_there_is_refused(path: str) -> None:
    """A fault cannot miss its place."""
    with pytest.raises(KeyError):
        edited({path: None})


def test_every_fault_of_the_node_changes_it() -> None:
    """None of them is the sound node under another name, unless something else is injected."""
    for fault in FAULTS:
        pretended = [each for each in fault.inject if each.function == "node.pretends"]
        for injection in pretended:
            changes = injection.arguments["changes"]
            assert edited(changes) != NODE or len(fault.inject) > 1 or fault.promised_gpus

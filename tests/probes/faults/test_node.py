"""The simulated node: a change sets the value at its path, and an unknown path is refused."""

import pytest

from probes.faults.inject.node import NODE, edited
from probes.faults.table import FAULTS


def test_a_change_sets_one_value_only() -> None:
    """One answer changes; the healthy node stays as it is."""
    node = edited({"nvml.gpus.1.compute_mode": "prohibited"})

    assert node["nvml"]["gpus"][1].pop("compute_mode") == "prohibited"
    assert NODE["nvml"]["gpus"][1]["compute_mode"] == "default"
    assert node["nvml"]["gpus"][0] == NODE["nvml"]["gpus"][0]


def test_a_list_may_grow() -> None:
    """A third GPU is added after the second."""
    assert len(edited({"nvml.gpus.2": {"index": 2}})["nvml"]["gpus"]) == 3


@pytest.mark.parametrize("path", ["torch.versoin", "hardware.vendor", "nothing"])
def test_a_path_that_is_not_there_is_refused(path: str) -> None:
    """So a fault cannot have a path that changes nothing."""
    with pytest.raises(KeyError):
        edited({path: None})


def test_every_fault_of_the_node_changes_it() -> None:
    """No fault leaves the node healthy, unless something else is injected."""
    for fault in FAULTS:
        pretended = [each for each in fault.inject if each.function == "node.pretends"]
        for injection in pretended:
            changes = injection.arguments["changes"]
            assert edited(changes) != NODE or len(fault.inject) > 1 or fault.promised_gpus

"""The list of operations that training calls is kept, and the campaign over it can fail."""

import json

import pytest
import torch

from tests.corpus import campaign, training

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.timeout(300)]

DOCUMENT = json.loads(campaign.LIST.read_text(encoding="utf-8"))


def test_the_list_is_what_the_programs_call() -> None:
    """What a program calls that is not in the list would be held by nobody."""
    if torch.__version__.partition("+")[0] != DOCUMENT["torch"]:
        pytest.skip(f"the list is that of torch {DOCUMENT['torch']}")
    found = campaign.record()

    assert {name for name in found if name not in DOCUMENT["operations"]} == set()
    assert DOCUMENT["operations"].keys() - found.keys() == set()


@pytest.mark.parametrize("program", training.PROGRAMS)
def test_a_program_learns(program: str) -> None:
    """Its losses are numbers, and differ from step to step."""
    losses = training.train(program, "eager", "cpu")

    assert all(0 < loss < 100 for loss in losses)
    assert len(set(losses)) == len(losses)


@pytest.mark.skipif(not hasattr(torch.library, "get_kernel"), reason="needs torch 2.9")
@pytest.mark.parametrize("spoil", campaign.SPOILS)
def test_a_wrong_operation_is_caught_and_a_right_one_is_not(spoil: str) -> None:
    """A product that quick probes call, and one that nothing calls."""
    wrong = campaign.trial("mm.default float32", spoil)
    unused = campaign.trial("_cdist_forward.default half", spoil)

    assert wrong["quick"]
    assert wrong["standard"] == wrong["quick"]
    assert unused == {"quick": "", "standard": ""}


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("mm.default float32", "computes"),
        ("add_.Tensor float32", "computes"),
        ("transpose.int float32", "view"),
        ("slice.Tensor float32", "view"),
        ("empty.memory_format none", "allocation"),
        ("bernoulli_.float float32", "draw"),
    ],
)
def test_operations_are_told_apart(operation: str, kind: str) -> None:
    """Only of what computes a wrong number says something."""
    assert campaign.category(operation) == kind


def test_every_operation_of_the_list_exists() -> None:
    """In the torch that it was recorded with."""
    if torch.__version__.partition("+")[0] != DOCUMENT["torch"]:
        pytest.skip(f"the list is that of torch {DOCUMENT['torch']}")
    kinds = {campaign.category(name) for name in DOCUMENT["operations"]}

    assert kinds == {"computes", "view", "allocation", "draw"}

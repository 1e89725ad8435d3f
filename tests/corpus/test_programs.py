"""The programs of the corpus, our own and those of public model libraries."""

from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn

from tests.corpus import campaign, libraries, training
from tests.corpus.library import pinned

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.timeout(300)]

#: Program of a library -> that library.
OF_LIBRARIES: Final = {
    f"{library}: {name}": library for library, own in libraries.ALL.items() for name in own
}
_VERSIONS: Final = dict(pinned.VERSIONS)
_ANY_WARNING: Final = pytest.mark.filterwarnings("ignore")  # the libraries have their own

OURS: Final = [program for program in training.PROGRAMS if program not in OF_LIBRARIES]


def test_the_list_is_that_of_all_programs() -> None:
    """It was not recorded without the libraries."""
    named = {program for programs in campaign.load("cpu").programs.values() for program in programs}

    assert named == {*OURS, *OF_LIBRARIES}


@pytest.mark.parametrize(
    "program",
    [*OURS, *(pytest.param(each, marks=_ANY_WARNING) for each in OF_LIBRARIES)],
)
def test_a_program_learns(program: str) -> None:
    """Its losses are numbers, differ from step to step, and come again with the seed."""
    if program not in training.PROGRAMS:
        library = OF_LIBRARIES[program]
        pytest.skip(f"needs {library}=={pinned.VERSIONS[library]}")
    losses = training.train(program, "eager", "cpu")

    assert all(0 < loss < 100 for loss in losses)
    assert len(set(losses)) == len(losses)
    assert training.train(program, "eager", "cpu") == losses


def test_a_library_of_another_version_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of the same name may call other operations there."""
    monkeypatch.setattr(pinned, "version", lambda library: _VERSIONS[library])
    assert libraries.missing() == []
    assert libraries.programs().keys() == OF_LIBRARIES.keys()

    monkeypatch.setitem(pinned.VERSIONS, "transformers", "5.24.1")
    monkeypatch.setattr(pinned, "version", lambda library: _VERSIONS[library])

    assert libraries.missing() == ["transformers==5.24.1"]
    left = {OF_LIBRARIES[program] for program in libraries.programs()}
    assert left == {"torchvision", "timm", "diffusers"}


def test_a_build_of_the_pinned_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The build for CPUs is 0.28.0+cpu; timm cannot be imported without it."""
    monkeypatch.setattr(pinned, "version", lambda library: f"{_VERSIONS[library]}+cpu")
    assert libraries.missing() == []

    monkeypatch.setitem(pinned.VERSIONS, "torchvision", "0.1")

    assert [each.partition("==")[0] for each in libraries.missing()] == ["torchvision", "timm"]


def test_the_dependency_group_has_the_pinned_versions() -> None:
    """`make coverage-of-operations` installs what the programs are pinned to."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    group = text.partition("\ncorpus = [")[2].partition("]")[0]

    assert sorted(line.split('"')[1] for line in group.splitlines() if '"' in line) == sorted(
        f"{library}=={version}" for library, version in pinned.VERSIONS.items()
    )


def test_checkpointing_keeps_the_random_state_of_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does so for the devices of its operands alone; a batch is drawn twice, and is the same."""
    drawn: list[Tensor] = []
    given: list[Any] = []

    class Model(nn.Module):
        def loss(self, device: str) -> Tensor:
            drawn.append(torch.rand(3, device=device))
            return (weight * drawn[-1].sin()).sum()

    def checkpoint(call: Any, *operands: Any, **settings: Any) -> Any:
        given.extend(operands)
        return kept(call, *operands, **settings)

    kept = torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(training, "checkpoint", checkpoint)
    weight = torch.ones(3, requires_grad=True)

    training._loss(Model(), "cpu", rebuilt=True).backward()

    assert [each.device.type for each in given if isinstance(each, Tensor)] == ["cpu"]
    assert len(drawn) == 2
    assert torch.equal(*drawn)

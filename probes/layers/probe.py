"""Runs the families on a device, and judges them."""

from collections.abc import Iterator
from typing import Final

from probes.contract import Finding
from probes.kit import families
from probes.kit.families import Families, Observation, family_finding, wrong_operations
from probes.kit.generators import random_state_kept
from probes.kit.gradients import recording
from probes.kit.layer import trials
from probes.kit.precision import read
from probes.kit.typed.activations import activations
from probes.kit.typed.activations_in_place import activations_in_place
from probes.kit.typed.softmax import softmax
from probes.layers import (
    adaptive_pooling,
    average_pooling,
    checkpointing,
    convolutions,
    embeddings,
    frozen_input,
    interpolation,
    max_pooling,
    normalisation,
    padding,
    recurrent,
    recurrent_calls,
    sampling,
    sizes,
    transformer,
    weight_norm,
)

__all__ = ["FAMILIES", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "activations": lambda device: trials(activations(), device),
    "in_place": lambda device: trials(activations_in_place(), device),
    "softmax": lambda device: trials(softmax(), device),
    "recurrent": recurrent.recurrent,
    "recurrent_calls": recurrent_calls.calls,
    "recurrent_cells": recurrent.cells,
    "recurrent_rows": recurrent.many_rows,
    "weight_norm": weight_norm.weight_norm,
    "row_norms": normalisation.row_norms,
    "group_norm": normalisation.group_norm,
    "batch_norm": normalisation.batch_norm,
    "frozen_input": frozen_input.frozen_input,
    "convolutions": convolutions.convolutions,
    "max_pooling": max_pooling.maxima,
    "average_pooling": average_pooling.averages,
    "adaptive_pooling": adaptive_pooling.adaptive,
    "interpolation": interpolation.interpolation,
    "sampling": sampling.sampling,
    "padding": padding.padding,
    "moves": padding.moves,
    "embedding": embeddings.embedding,
    "embedding_bag": embeddings.bags,
    "sizes": sizes.sizes,
    "transformer": transformer.transformer,
    "checkpoint": checkpointing.checkpoints,
}

_HINT: Final = (
    "compare with a second device and the same image: wrong there too, change the image; wrong on "
    "one device only, drain it and reset the GPU"
)
_FROZEN_HINT: Final = (
    "GroupNorm in training ends the process where its input is in channels_last and needs no "
    "gradient, as behind a frozen backbone: call `x.requires_grad_()` or `x.contiguous()` before it"
)
_FROZEN: Final = "frozen_input"

#: With matrix products that are not exact, which a variable may shorten whatever torch says.
_OF_PRODUCTS: Final = ("transformer", "sampling")


def observe(device: str) -> Observation:
    """Try every family in full float32 precision, which the bounds need."""
    setting = read(device)
    with recording(), random_state_kept(device):
        return families.observe(FAMILIES, device, precision=setting)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every family."""
    for name in FAMILIES:
        known = name == _FROZEN and _only_died(observation)
        hint = _FROZEN_HINT if known else _HINT
        shortened = name in _OF_PRODUCTS and bool(observation.precision.forced_by)
        yield family_finding(
            f"layers.{name}", observation, hint=hint, inconclusive=known or shortened
        )


def _only_died(observation: Observation) -> bool:
    """Whether all that is wrong is that processes of their own did not return."""
    wrong = wrong_operations(_FROZEN, observation)
    return all(each.problem.startswith(frozen_input.ENDED_EARLY) for each in wrong)

"""Runs the families on a device, and judges them."""

import warnings
from collections.abc import Iterator
from typing import Final

import torch

from probes.contract import Finding
from probes.kit import families
from probes.kit.families import Families, Observation, family_finding
from probes.optimizer import adaptive, clipping, descent, foreach_kernels, groups, schedulers, state

__all__ = ["FAMILIES", "Observation", "judge", "observe"]

#: Check -> the trials of its family, in the catalogue's order.
FAMILIES: Final[Families] = {
    "sgd": descent.sgd,
    "momentum": descent.momentum,
    "adam": adaptive.adam,
    "adamw": adaptive.adamw,
    "rmsprop": adaptive.rmsprop,
    "adagrad": adaptive.adagrad,
    "adamax": adaptive.adamax,
    "nadam": adaptive.nadam,
    "groups": groups.groups,
    "missing_gradients": groups.missing_gradients,
    "state": state.state,
    "schedulers": schedulers.schedulers,
    "clipping": clipping.clipping,
    "foreach_kernels": foreach_kernels.foreach_kernels,
}

_HINT: Final = (
    "the operations named say which implementation is wrong: if it is foreach or fused alone, "
    "train with foreach=False, fused=False and change torch; if the CPU of the same image and "
    "another device are right, drain this one; wrong everywhere, look for what patches torch.optim"
)


def observe(device: str) -> Observation:
    """Step every optimizer of every family on the device, with gradients switched on."""
    with warnings.catch_warnings(), torch.inference_mode(mode=False), torch.enable_grad():
        warnings.simplefilter("ignore")  # where they are errors a notice would end a trial
        return families.observe(FAMILIES, device)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every family. On MPS quotients and roots are not correctly rounded."""
    on_metal = observation.back_end_type == "mps"
    for name in FAMILIES:
        yield family_finding(f"optimizer.{name}", observation, hint=_HINT, inconclusive=on_metal)

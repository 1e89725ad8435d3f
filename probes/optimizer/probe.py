"""Runs the families on a device, and judges them."""

import warnings
from collections.abc import Iterator
from typing import Final

import torch

from probes.contract import Finding
from probes.kit import families
from probes.kit.families import Families, Observation, family_finding
from probes.optimizer import (
    adaptive,
    averaging,
    clipping,
    descent,
    foreach_kernels,
    groups,
    matrices,
    other_steps,
    quasi_newton,
    schedulers,
    sparse,
    state,
)

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
    "radam": other_steps.radam,
    "adadelta": other_steps.adadelta,
    "asgd": other_steps.asgd,
    "rprop": other_steps.rprop,
    "adafactor": matrices.adafactor,
    "muon": matrices.muon,
    "lbfgs": quasi_newton.lbfgs,
    "sparse": sparse.sparse,
    "groups": groups.groups,
    "missing_gradients": groups.missing_gradients,
    "state": state.state,
    "schedulers": schedulers.schedulers,
    "averaging": averaging.averaging,
    "clipping": clipping.clipping,
    "foreach_kernels": foreach_kernels.foreach_kernels,
}

#: Why there may be nothing to see of a family.
_SINCE: Final = {
    "adafactor": "torch 2.5 and later have Adafactor",
    "muon": "torch 2.9 and later have Muon, which needs bfloat16",
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
        why = "" if observation.families.get(name) else _SINCE.get(name, "")
        yield family_finding(
            f"optimizer.{name}", observation, hint=_HINT, why=why, inconclusive=on_metal
        )

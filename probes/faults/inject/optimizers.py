"""Replaces optimizers, schedulers and clipping with wrong ones."""

from collections.abc import Callable
from inspect import signature
from typing import Any, Final

import torch
from torch import optim
from torch.nn import utils
from torch.optim import swa_utils

from probes.faults.inject.replaced import replace


def _with_options(**changed: Any) -> Callable[[Any], Any]:
    """An optimizer's constructor with some of its options replaced."""

    def make(original: Any) -> Any:
        def construct(self: Any, params: Any, *given: Any, **options: Any) -> None:
            bound = signature(original).bind(self, params, *given, **options)
            bound.arguments.update(changed)  # AdamW gives Adam its options by position
            original(*bound.args, **bound.kwargs)

        return construct

    return make


def _one_step_early(original: Any) -> Any:
    """A scheduler that has taken a step when it is made."""

    def construct(self: Any, optimizer: Any, *given: Any, **options: Any) -> None:
        original(self, optimizer, *given, **options)
        self.last_epoch += 1

    return construct


def _groups_alike(original: Any) -> Any:
    """Each group gets the learning rate of the first."""

    def add(self: Any, group: dict[str, Any]) -> None:
        original(self, group)
        self.param_groups[-1]["lr"] = self.param_groups[0]["lr"]

    return add


def _missing_as_zeros(original: Any) -> Any:
    """A parameter without a gradient steps with a gradient of zeros."""

    def step(self: Any, *given: Any) -> Any:
        for group in self.param_groups:
            for each in group["params"]:
                each.grad = torch.zeros_like(each) if each.grad is None else each.grad
        return original(self, *given)

    return step


def _without_steps(original: Any) -> Any:
    """The state dict has forgotten how many steps were taken."""

    def state_dict(self: Any) -> dict[str, Any]:
        saved: dict[str, Any] = original(self)
        for index, each in saved["state"].items():
            saved["state"][index] = {
                name: value * 0 if name == "step" else value for name, value in each.items()
            }
        return saved

    return state_dict


def _without_state(original: Any) -> Any:
    """Only the options are loaded."""

    def load(self: Any, state_dict: dict[str, Any]) -> None:
        original(self, {**state_dict, "state": {}})

    return load


def _by_half(original: Any) -> Any:
    """The norm is clipped to half of the limit."""
    return lambda parameters, limit, *rest, **named: original(parameters, limit / 2, *rest, **named)


def _always(original: Any) -> Any:
    """Gradients are scaled to the limit even where they are below it."""

    def clip(parameters: Any, limit: float, *rest: Any, **named: Any) -> Any:
        listed = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
        norm = original(listed, limit, *rest, **named)
        for each in listed:
            if each.grad is not None and 0 < norm < limit:
                each.grad.mul_(limit / norm)
        return norm

    return clip


def _from_above(_: Any) -> Any:
    """Values are clipped from above only."""

    def clip(parameters: Any, limit: float, **_named: Any) -> None:
        for each in parameters:
            if each.grad is not None:
                each.grad.clamp_(max=limit)

    return clip


def _coupled(params: Any, *, weight_decay: float = 1e-2, **options: Any) -> optim.Optimizer:
    """AdamW whose decay goes through the averages."""
    return optim.Adam(params, weight_decay=weight_decay, **options)


def _without_history(original: Any) -> Any:
    """L-BFGS that remembers one step alone, and takes ten of the steps that it is told."""

    def construct(self: Any, params: Any, **options: Any) -> None:
        original(self, params, **{**options, "history_size": 1, "max_iter": 10})

    return construct


def _as_dense(original: Any) -> Any:
    """An optimizer for which rows without a gradient have a gradient of zeros."""

    def step(self: Any, *given: Any) -> Any:
        for group in self.param_groups:
            for each in group["params"]:
                rows = torch.arange(len(each), device=each.device)[None]
                none = torch.sparse_coo_tensor(rows, torch.zeros_like(each), each.shape)
                each.grad = each.grad + none
        return original(self, *given)

    return step


def _last_alone(_: Any) -> Any:
    """An average that takes the newest parameters."""

    def update(self: Any, model: Any) -> None:
        for mine, newest in zip(self.module.parameters(), model.parameters(), strict=True):
            mine.detach().copy_(newest.detach())

    return update


def _nothing(_: Any) -> Any:
    return lambda *_given, **_named: None


#: None where this torch does not have them: the check is skipped there.
_ADAFACTOR: Final = getattr(optim, "Adafactor", None)
_MUON: Final = getattr(optim, "Muon", None)

#: Name -> (owner, function, factory of its replacement).
OPTIMIZERS: Final[dict[str, tuple[Any, str, Callable[[Any], Any]]]] = {
    "sgd_without_decay": (optim.SGD, "__init__", _with_options(weight_decay=0)),
    "sgd_without_dampening": (optim.SGD, "__init__", _with_options(dampening=0)),
    "adam_without_amsgrad": (optim.Adam, "__init__", _with_options(amsgrad=False)),
    "adamw_is_adam": (
        optim,
        "AdamW",
        lambda _: _coupled,
    ),
    "rmsprop_never_centered": (optim.RMSprop, "__init__", _with_options(centered=False)),
    "adagrad_without_lr_decay": (optim.Adagrad, "__init__", _with_options(lr_decay=0)),
    "adamax_other_eps": (optim.Adamax, "__init__", _with_options(eps=1e-3)),
    "nadam_other_decay": (optim.NAdam, "__init__", _with_options(momentum_decay=0)),
    "radam_decay_in_the_gradient": (
        optim.RAdam,
        "__init__",
        _with_options(decoupled_weight_decay=False),
    ),
    "adadelta_other_rho": (optim.Adadelta, "__init__", _with_options(rho=0.9)),
    "asgd_without_decay": (optim.ASGD, "__init__", _with_options(lambd=1e-4)),
    "rprop_other_etas": (optim.Rprop, "__init__", _with_options(etas=(0.5, 1.2))),
    "adafactor_other_clipping": (_ADAFACTOR, "__init__", _with_options(d=1.5)),
    "muon_without_momentum": (_MUON, "__init__", _with_options(momentum=0.0)),
    "lbfgs_without_history": (optim.LBFGS, "__init__", _without_history),
    "sparse_rows_all_step": (optim.SparseAdam, "step", _as_dense),
    "average_is_the_last": (swa_utils.AveragedModel, "update_parameters", _last_alone),
    "groups_alike": (optim.Optimizer, "add_param_group", _groups_alike),
    "missing_as_zeros": (optim.SGD, "step", _missing_as_zeros),
    "zero_grad_does_nothing": (optim.Optimizer, "zero_grad", _nothing),
    "state_without_steps": (optim.Optimizer, "state_dict", _without_steps),
    "state_not_loaded": (optim.Optimizer, "load_state_dict", _without_state),
    "scheduler_one_step_early": (optim.lr_scheduler.StepLR, "__init__", _one_step_early),
    "clip_to_half": (utils, "clip_grad_norm_", _by_half),
    "clip_always": (utils, "clip_grad_norm_", _always),
    "clip_from_above": (utils, "clip_grad_value_", _from_above),
}


def does_something_else(name: str) -> None:
    """Replace the function that `OPTIMIZERS` has under that name."""
    owner, function, make = OPTIMIZERS[name]
    if owner is not None:
        replace(owner, function, make)

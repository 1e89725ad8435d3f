"""Replaces layers, modes and training with wrong ones."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

import torch
from torch import nn

from probes.faults.inject.replaced import replace

_functional: Any = nn.functional
_dropout, _batch_norm, _mse = _functional.dropout, _functional.batch_norm, _functional.mse_loss
_train, _to, _load = nn.Module.train, nn.Module.to, nn.Module.load_state_dict
_torch_load, _torch_save = torch.load, torch.save


def _other_dropout(
    change: Callable[[torch.Tensor, float], torch.Tensor], *, always: bool = False
) -> Callable[[Any], Any]:
    """Dropout replaced by `change`, in train() or always."""

    def broken(
        x: torch.Tensor,
        p: float = 0.5,
        training: bool = True,  # noqa: FBT001, FBT002 - torch's own signature
        inplace: bool = False,  # noqa: FBT001, FBT002 - same
    ) -> torch.Tensor:
        if not (training or always) or p in {0.0, 1.0}:
            return _dropout(x, p, training, inplace)  # type: ignore[no-any-return]
        out = change(x, p)
        return x.copy_(out) if inplace else out

    return lambda _: broken


def _by_mask(mask: Callable[[torch.Tensor, float], torch.Tensor]) -> Callable[[Any], Any]:
    return _other_dropout(lambda x, p: x * mask(x, p) / (1 - p))


def _uniform_like(x: torch.Tensor) -> torch.Tensor:
    return torch.rand(x.shape, device=x.device)


def _in_pairs(x: torch.Tensor, p: float) -> torch.Tensor:
    half = torch.rand((x.numel() + 1) // 2, device=x.device) >= p
    return half.repeat_interleave(2)[: x.numel()].reshape(x.shape)


def _same_mask(x: torch.Tensor, p: float) -> torch.Tensor:
    drawn = torch.rand(x.shape, generator=torch.Generator().manual_seed(5))
    return drawn.to(x.device) >= p


def _training_dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """Torch's own dropout, as in train()."""
    return _dropout(x, p, True, False)  # type: ignore[no-any-return]


def _batch_norm_with(**changed: Any) -> Callable[[Any], Any]:
    """BatchNorm with some arguments changed."""

    def broken(x: Any, mean: Any, var: Any, *rest: Any, **named: Any) -> torch.Tensor:
        names = ("weight", "bias", "training", "momentum", "eps")
        options = dict(zip(names, rest, strict=False)) | named
        for name, value in changed.items():
            options[name] = value(options.get(name, 0.1)) if callable(value) else value
        return _batch_norm(x, mean, var, **options)  # type: ignore[no-any-return]

    return lambda _: broken


def biased(x: Any, mean: Any, var: Any, *rest: Any, **named: Any) -> torch.Tensor:
    """BatchNorm that keeps the biased variance."""
    before = None if var is None else var.clone()
    out = _batch_norm(x, mean, var, *rest, **named)
    if before is not None and not torch.equal(before, var):
        axes = (0, *range(2, x.dim()))
        change = 0.1 * (x.var(axes, unbiased=False) - x.var(axes, unbiased=True))
        var.add_(change.detach())
    return out  # type: ignore[no-any-return]


def moving(x: Any, mean: Any, var: Any, *rest: Any, **named: Any) -> torch.Tensor:
    """BatchNorm whose frozen mean changes by one bit."""
    out = _batch_norm(x, mean, var, *rest, **named)
    training = rest[2] if len(rest) > 2 else named.get("training", False)
    if mean is not None and not training:
        mean.mul_(1 + 2**-23)
    return out  # type: ignore[no-any-return]


def silent_eval(module: nn.Module) -> None:
    """eval() that returns None."""
    _train(module, False)


def own_only(module: nn.Module, mode: bool = True) -> nn.Module:  # noqa: FBT001, FBT002
    """train() that changes only the module itself."""
    module.training = mode
    return module


def children_only(module: nn.Module, mode: bool = True) -> nn.Module:  # noqa: FBT001, FBT002
    """train() that stops at the children."""
    for each in (module, *module.children()):
        each.training = mode
    return module


def freezing(module: nn.Module, mode: bool = True) -> nn.Module:  # noqa: FBT001, FBT002
    """train() and eval() that switch gradients as well."""
    for parameter in module.parameters():
        parameter.requires_grad_(mode)
    return _train(module, mode)


def halved(state: Any, file: Any, **options: Any) -> None:
    """Save in half precision, then restore the dtype."""
    short = {k: v.half().float() if v.is_floating_point() else v for k, v in state.items()}
    _torch_save(short, file, **options)


def _in_place(*, always: bool) -> Callable[[Any], Any]:
    """Dropout that always, or never, writes over its input."""
    return lambda _: lambda x, p, training, _asked: _dropout(x, p, training, always)


def _loading(call: Callable[[nn.Module, Any, bool], Any]) -> Callable[[Any], Any]:
    return lambda _: lambda module, state, strict=True: call(module, state, strict)


def _loaded(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda _: lambda *given, **options: change(_torch_load(*given, **options))


def _straight_through(x: torch.Tensor, p: float) -> torch.Tensor:
    return x + (_training_dropout(x, p) - x).detach()


def _keeps_its_dtype(module: nn.Module, *given: Any, **named: Any) -> nn.Module:
    return module if isinstance(given[0], torch.dtype) else _to(module, *given, **named)


#: Name -> (owner, function, factory of its replacement).
LAYERS: Final[dict[str, tuple[Any, str, Callable[[Any], Any]]]] = {
    "dropout_alive_in_eval": (
        _functional,
        "dropout",
        _other_dropout(_training_dropout, always=True),
    ),
    "dropout_never_drops": (_functional, "dropout", _other_dropout(lambda x, _: x + 0)),
    "dropout_does_not_scale": (
        _functional,
        "dropout",
        _other_dropout(lambda x, p: x * (_uniform_like(x) >= p)),
    ),
    "dropout_scales_too_much": (
        _functional,
        "dropout",
        _other_dropout(lambda x, p: _training_dropout(x, p) * (1 + 1e-6)),
    ),
    "dropout_too_often": (
        _functional,
        "dropout",
        _by_mask(lambda x, p: _uniform_like(x) >= p * 1.04),
    ),
    "dropout_in_pairs": (_functional, "dropout", _by_mask(_in_pairs)),
    "dropout_with_one_mask": (_functional, "dropout", _by_mask(_same_mask)),
    "dropout_gradient_everywhere": (_functional, "dropout", _other_dropout(_straight_through)),
    "dropout_never_in_place": (_functional, "dropout", _in_place(always=False)),
    "dropout_always_in_place": (_functional, "dropout", _in_place(always=True)),
    "dropout2d_by_element": (_functional, "dropout2d", lambda _: _dropout),
    "dropout3d_alive_in_eval": (
        _functional,
        "dropout3d",
        lambda _: lambda x, p, _training, inplace=False: _dropout(x, p, True),  # noqa: ARG005
    ),
    "alpha_dropout_as_plain": (
        _functional,
        "alpha_dropout",
        lambda _: lambda x, p, training, *_rest: _dropout(x, p, training),
    ),
    "batch_norm_frozen_in_train": (_functional, "batch_norm", _batch_norm_with(training=False)),
    "batch_norm_by_batch_in_eval": (_functional, "batch_norm", _batch_norm_with(training=True)),
    "batch_norm_frozen_mean_moves": (_functional, "batch_norm", lambda _: moving),
    "batch_norm_other_momentum": (
        _functional,
        "batch_norm",
        _batch_norm_with(momentum=lambda m: m * 0.99),
    ),
    "batch_norm_without_eps": (_functional, "batch_norm", _batch_norm_with(eps=1e-12)),
    "batch_norm_biased": (_functional, "batch_norm", lambda _: biased),
    "eval_stays_at_the_top": (nn.Module, "train", lambda _: own_only),
    "eval_stops_at_the_children": (nn.Module, "train", lambda _: children_only),
    "eval_does_nothing": (nn.Module, "eval", lambda _: lambda module: module),
    "eval_gives_none": (nn.Module, "eval", lambda _: silent_eval),
    "eval_freezes_parameters": (nn.Module, "train", lambda _: freezing),
    "random_slope_in_eval": (
        _functional,
        "rrelu",
        lambda _: lambda x, low, high, *_rest: torch.rrelu(x, low, high, True),
    ),
    "loss_not_averaged": (
        _functional,
        "mse_loss",
        lambda _: lambda x, y: _mse(x, y, reduction="sum") / 63,
    ),
    "gradients_never_zeroed": (nn.Module, "zero_grad", lambda _: lambda *_g, **_o: None),
    "saved_in_half": (torch, "save", lambda _: halved),
    "saved_short": (torch, "save", lambda _: lambda _state, file: file.write(b"PK")),
    "loaded_as_zeros": (torch, "load", _loaded(lambda state: {k: v * 0 for k, v in state.items()})),
    "loaded_without_a_buffer": (
        torch,
        "load",
        _loaded(lambda state: dict(list(state.items())[1:])),
    ),
    "loading_is_not_strict": (
        nn.Module,
        "load_state_dict",
        _loading(lambda module, state, _: _load(module, state, strict=False)),
    ),
    "loading_shares": (
        nn.Module,
        "load_state_dict",
        _loading(lambda module, state, strict: _load(module, state, strict, assign=True)),
    ),
    "loading_does_nothing": (
        nn.Module,
        "load_state_dict",
        _loading(lambda module, _, strict: _load(module, {**module.state_dict()}, strict)),
    ),
    "module_to_copies": (
        nn.Module,
        "to",
        lambda _: lambda module, *given, **named: _to(deepcopy(module), *given, **named),
    ),
    "module_to_ignores_dtype": (nn.Module, "to", lambda _: _keeps_its_dtype),
}


def does_something_else(name: str) -> None:
    """Replace the function that `LAYERS` has under that name."""
    owner, function, make = LAYERS[name]
    replace(owner, function, make)

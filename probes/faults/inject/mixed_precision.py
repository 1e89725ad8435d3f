"""Makes autocast and gradient scalers do something else than documented."""

import warnings
from collections.abc import Callable
from typing import Any, Final

import torch
from torch.utils import checkpoint

from probes.faults.inject.operations import TALLY, intercept
from probes.faults.inject.replaced import replace

_UNSCALE: Final = "_amp_foreach_non_finite_check_and_unscale_"
_FUSED: Final = ("_fused_sgd_", "_fused_adam_", "_fused_adamw_")

#: Operations go back to their own cast when these are collected.
_LIBRARIES: Final[list[torch.library.Library]] = []


def not_cast(operators: tuple[str, ...], *, device: str) -> None:
    """Take operations out of autocast's table: they run in the type of their operands."""
    key = f"Autocast{torch.device(device).type.upper()}"
    library = torch.library.Library("aten", "IMPL")
    _LIBRARIES.append(library)
    TALLY.seen += 1
    for operator in operators:
        for overload in torch._C._jit_get_operation(f"aten::{operator}")[1]:
            name = f"{operator}.{overload}" if overload else operator
            if torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", key):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that a kernel is replaced
                    library.impl(name, torch.library.fallthrough_kernel, key)
                TALLY.matched += 1


def _with_float64_cast(original: Any) -> Any:
    """float64 is cast to float32, and on from there."""

    def mm(a: torch.Tensor, b: torch.Tensor, **named: Any) -> torch.Tensor:
        if a.dtype == b.dtype == torch.float64:
            return original(a.float(), b.float(), **named)  # type: ignore[no-any-return]
        return original(a, b, **named)  # type: ignore[no-any-return]

    return mm


def _remembers_no_grad(original: Any) -> Any:
    """A weight that was cast without gradients has none until the region ends."""
    without: list[torch.Tensor] = []

    def mm(a: torch.Tensor, b: torch.Tensor, **named: Any) -> torch.Tensor:
        if any(b is each for each in without):
            return original(a, b.detach(), **named)  # type: ignore[no-any-return]
        if b.requires_grad and b.is_leaf and not torch.is_grad_enabled():
            without.append(b)
        return original(a, b, **named)  # type: ignore[no-any-return]

    def clearing(clear: Any) -> Any:
        def clear_autocast_cache() -> None:
            without.clear()
            clear()

        return clear_autocast_cache

    replace(torch, "clear_autocast_cache", clearing)
    return mm


def _nothing(_: Any) -> Any:
    return lambda *_given, **_named: None


def _undecorated(_: Any) -> Any:
    """A decorator that returns what it was given."""
    return lambda function=None, **_named: function


def _function_alone(_: Any) -> Any:
    return lambda _region, function: function


def _without_casts(original: Any) -> Any:
    """custom_fwd without the types that it was given."""
    return lambda *given, **named: original(*given, **{**named, "cast_inputs": None})


def _always_enabled(original: Any) -> Any:
    """A region that is on, whatever it was told."""

    def construct(self: Any, *given: Any, **named: Any) -> None:
        original(self, *given, **{**named, "enabled": True})

    return construct


def _kept_after_errors(original: Any) -> Any:
    """A region that an exception leaves stays in force."""

    def leave(self: Any, kind: Any, *rest: Any) -> Any:
        return None if kind is not None else original(self, kind, *rest)

    return leave


def _switched_off(original: Any) -> Any:
    """A checkpoint runs its second forward without autocast."""

    def kwargs(*given: Any, **named: Any) -> Any:
        return tuple(each and {**each, "enabled": False} for each in original(*given, **named))

    return kwargs


def _never_refuses(original: Any) -> Any:
    """Gradients are unscaled as often as they are asked to be."""

    def unscale(self: Any, optimizer: Any) -> None:
        state = self._per_optimizer_states[id(optimizer)] if self.is_enabled() else {}
        if state and state["stage"].name == "UNSCALED":
            state["stage"] = type(state["stage"]).READY
        original(self, optimizer)

    return unscale


def _always_steps(_: Any) -> Any:
    """A step is taken with gradients that are not finite."""
    return lambda _scaler, optimizer, _state, *given, **named: optimizer.step(*given, **named)


def _without_counter(original: Any) -> Any:
    """A state dict that has forgotten the steps since the last growth."""
    return lambda self: {**original(self), "_growth_tracker": 0}


Handler = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


def _finds_no_nan(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """NaN is taken for finite."""
    only_nan = not any(bool(torch.isinf(each).any()) for each in args[0])
    before = args[1].clone()
    func(*args, **kwargs)
    if only_nan:
        args[1].copy_(before)


def _last_not_searched(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The last element of the last tensor is not looked at."""
    tensors = [each for each in args[0] if each.numel()]
    if not tensors or not tensors[-1].dim():
        func(*args, **kwargs)
        return
    end = tensors[-1][tuple(slice(-1, None) for _ in tensors[-1].shape)]
    kept = end.clone()
    end.zero_()
    func(*args, **kwargs)
    end.copy_(kept * args[2])


def _late(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The scale grows one step late."""
    return func(*args[:-1], args[-1] + 1, **kwargs)


def _without_backoff(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The scale stays where it should back off."""
    return func(*args[:4], 1.0, *args[5:], **kwargs)


def _without(name: str) -> Handler:
    """A call without one of its named arguments."""
    return lambda func, args, kwargs: func(*args, **{**kwargs, name: None})


_amp: Final[Any] = torch.amp
_scaler: Final[Any] = getattr(torch.amp, "GradScaler", torch.cuda.amp.GradScaler)


def _first_group_alone(original: Any) -> Any:
    """A scaler that unscales and searches the parameters of the first group alone."""

    def unscale(self: Any, optimizer: Any, *rest: Any) -> Any:
        groups = optimizer.param_groups
        optimizer.param_groups = groups[:1]
        try:
            return original(self, optimizer, *rest)
        finally:
            optimizer.param_groups = groups

    return unscale


def _answers_nothing(original: Any) -> Any:
    """A scaler's step that forgets what the optimizer's returned."""

    def step(self: Any, *given: Any, **options: Any) -> None:
        original(self, *given, **options)

    return step


#: Name -> (owner, function, factory of its replacement).
CALLS: Final[dict[str, tuple[Any, str, Callable[[Any], Any]]]] = {
    "float64_is_cast": (torch, "mm", _with_float64_cast),
    "cache_never_cleared": (torch, "clear_autocast_cache", _nothing),
    "cache_always_on": (torch, "set_autocast_cache_enabled", _nothing),
    "no_grad_is_cached": (torch, "mm", _remembers_no_grad),
    "region_never_off": (torch.autocast, "__init__", _always_enabled),
    "region_outlives_errors": (torch.autocast, "__exit__", _kept_after_errors),
    "decorator_does_nothing": (_amp.autocast_mode, "autocast_decorator", _function_alone),
    "custom_bwd_does_nothing": (_amp, "custom_bwd", _undecorated),
    "custom_fwd_casts_nothing": (_amp, "custom_fwd", _without_casts),
    "checkpoint_without_autocast": (checkpoint, "_get_autocast_kwargs", _switched_off),
    "scale_ignored": (_scaler, "scale", lambda _: lambda _scaler, outputs: outputs),
    "unscaled_twice": (_scaler, "unscale_", _never_refuses),
    "first_group_unscaled": (_scaler, "_unscale_grads_", _first_group_alone),
    "answer_lost": (_scaler, "step", _answers_nothing),
    "step_never_skipped": (_scaler, "_maybe_opt_step", _always_steps),
    "state_without_counter": (_scaler, "state_dict", _without_counter),
}

#: Name -> (operations, what happens in their place).
KERNELS: Final[dict[str, tuple[tuple[str, ...], Handler]]] = {
    "nan_not_found": ((_UNSCALE,), _finds_no_nan),
    "last_not_searched": ((_UNSCALE,), _last_not_searched),
    "grows_late": (("_amp_update_scale_",), _late),
    "never_backs_off": (("_amp_update_scale_",), _without_backoff),
    "fused_ignores_scale": (_FUSED, _without("grad_scale")),
    "fused_ignores_inf": (_FUSED, _without("found_inf")),
}


def does_something_else(name: str) -> None:
    """Replace what `CALLS` or `KERNELS` has under that name."""
    if name in KERNELS:
        intercept(*KERNELS[name])
        return
    owner, function, make = CALLS[name]
    replace(owner, function, make)

"""Replaces calls of torch with wrong ones: a view that copies, a seed that is ignored."""

from collections.abc import Callable
from typing import Any, Final

import torch

from probes.faults.inject.replaced import replace


def off_by_one(original: Any) -> Any:
    """`narrow` that starts one element early."""
    return lambda x, axis, start, length: original(x, axis, max(0, start - 1), length)


def last_of_ties(original: Any) -> Any:
    """`argmax` that takes the last of equal elements."""

    def last(x: torch.Tensor, axis: int | None = None, **options: Any) -> Any:
        if axis is None or options:
            return original(x, axis, **options)
        return x.shape[axis] - 1 - original(x.flip(axis), axis)

    return last


def unstable(original: Any) -> Any:
    """`sort(stable=True)` that is not stable."""

    def sort(x: torch.Tensor, *, stable: bool, dim: int, **options: Any) -> Any:
        if options:
            return original(x, stable=stable, dim=dim, **options)
        values, index = original(x.flip(dim), stable=stable, dim=dim)
        return values, x.shape[dim] - 1 - index

    return sort


def _one_of_duplicates(_: Any) -> Any:
    def add(
        x: torch.Tensor, _axis: int, index: torch.Tensor, source: torch.Tensor, **_o: Any
    ) -> Any:
        done = x.clone()
        for place, row in zip(index.tolist(), source, strict=True):
            done[place] = x[place] + row
        return done

    return add


def _unseeded(original: Any) -> Any:
    def draw(*shape: Any, generator: Any = None, **options: Any) -> Any:  # noqa: ARG001 - ignored
        return original(*shape, **options)

    return draw


def _with_changed_result(change: Callable[[torch.Tensor], Any]) -> Callable[[Any], Any]:
    """The call with its result changed, unless it writes to `out=`."""

    def make(original: Any) -> Any:
        def call(*given: Any, **options: Any) -> Any:
            answer = original(*given, **options)
            return answer if "out" in options else change(answer)

        return call

    return make


def _without_gradient(original: Any) -> Any:
    return lambda *sizes, **options: original(*sizes, **{**options, "requires_grad": False})


def _half_precise(original: Any) -> Any:
    return lambda x, **options: original(x.half().to(x.dtype), **options)


def _truncating(_: Any) -> Any:
    return lambda a, b, **options: torch.div(a, b, rounding_mode="trunc", **options)


def _half_up(_: Any) -> Any:
    return lambda x, **options: torch.floor(x + 0.5, **options)


def _times_beta(original: Any) -> Any:
    """`addmm` that multiplies its input by 0, so that NaN stays."""

    def addmm(added: torch.Tensor, a: Any, b: Any, **options: Any) -> Any:
        if options.get("beta") != 0:
            return original(added, a, b, **options)
        return added * 0 + a @ b

    return addmm


def _real_part_only(original: Any) -> Any:
    return lambda x: float(original(x).real)


def _rolled(original: Any) -> Any:
    return lambda x, at: original(x.roll(1, 0), at)


#: Name -> (owner below torch, function, factory of its replacement).
CALLS: Final[dict[str, tuple[str, str, Callable[[Any], Any]]]] = {
    "view_copies": ("Tensor", "view", _with_changed_result(lambda x: x.clone())),
    "t_copies": ("Tensor", "t", _with_changed_result(lambda x: x.clone())),
    "clone_shares": ("Tensor", "clone", lambda _: lambda x, **_o: x[...]),
    "tensor_narrow_off_by_one": ("Tensor", "narrow", off_by_one),
    "add_copies": ("Tensor", "add_", lambda _: lambda x, other: x + other),
    "copy_does_nothing": ("Tensor", "copy_", lambda _: lambda x, _other: x),
    "t_in_place_copies": ("Tensor", "t_", lambda _: lambda x: x.t()),
    "mul_gives_another": ("Tensor", "mul_", _with_changed_result(lambda x: x.clone())),
    "item_is_real": ("Tensor", "item", _real_part_only),
    "tolist_is_flat": (
        "Tensor",
        "tolist",
        lambda original: lambda x: original(x.contiguous().flatten()),
    ),
    "bool_is_true": ("Tensor", "__bool__", lambda _: lambda _x: True),
    "index_off_by_one": ("Tensor", "__getitem__", _rolled),
    "long_rounds": ("Tensor", "long", lambda _: lambda x: x.round().to(torch.int64)),
    "ones_without_gradient": ("", "ones", _without_gradient),
    "zeros_uninitialised": ("", "zeros", lambda _: torch.empty),
    "narrow_off_by_one": ("", "narrow", off_by_one),
    "remainder_of_c": ("", "remainder", lambda _: torch.fmod),
    "floor_divide_truncates": ("", "floor_divide", _truncating),
    "round_half_up": ("", "round", _half_up),
    "argmax_last_of_ties": ("", "argmax", last_of_ties),
    "sort_unstable": ("", "sort", unstable),
    "index_add_loses_duplicates": ("", "index_add", _one_of_duplicates),
    "minimum_ignores_nan": ("", "minimum", lambda _: torch.fmin),
    "addmm_multiplies_by_zero": ("", "addmm", _times_beta),
    "equal_is_true": ("", "equal", lambda _: lambda _a, _b: True),
    "allclose_is_true": ("", "allclose", lambda _: lambda _a, _b, **_o: True),
    "exp_in_half": ("", "exp", _half_precise),
    "conj_forgotten": ("", "conj", lambda _: lambda x: x),
    "rand_unseeded": ("", "rand", _unseeded),
    "rand_constant": ("", "rand", _with_changed_result(lambda x: x * 0 + 0.5)),
    "randn_too_wide": ("", "randn", _with_changed_result(lambda x: x * 1.1)),
    "randint_even": ("", "randint", _with_changed_result(lambda x: x // 2 * 2)),
    "manual_seed_ignored": ("", "manual_seed", lambda _: lambda _seed: None),
}


def means_something_else(name: str) -> None:
    """Replace the function that `CALLS` has under that name."""
    owner, function, make = CALLS[name]
    replace(getattr(torch, owner) if owner else torch, function, make)


def default_dtype(dtype: str) -> None:
    """Change the default type, as a library may at its import."""
    torch.set_default_dtype(getattr(torch, dtype))


def default_device(device: str) -> None:
    """Change the default device, as a library may at its import."""
    torch.set_default_device(device)


def deterministic() -> None:
    """Make operations without a deterministic implementation raise."""
    # torch.use_deterministic_algorithms would first import a compiler, which takes seconds.
    torch._C._set_deterministic_algorithms(True, warn_only=False)


def autocast() -> None:
    """Switch autocast on for the rest of this process."""
    torch.autocast("cpu").__enter__()


def full_precision() -> None:
    """Forbid TF32 in products and convolutions, so that shortened ones are a fault."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def gradients_off() -> None:
    """Switch gradients off, as a library may at its import."""
    torch.set_grad_enabled(False)

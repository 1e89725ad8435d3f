"""Faults of meaning: calls with wrong behaviour, and changed defaults."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection

_VIEWS: Final = Event(
    "a view that copies or a copy that shares, so that writes are lost or seen elsewhere",
    "https://docs.pytorch.org/docs/stable/tensor_view.html",
)
_IN_PLACE: Final = Event(
    "an in-place operation that changes nothing",
    "https://github.com/pytorch/pytorch/issues/118115",
)
_EDGES: Final = Event(
    "an operation that a back-end or patch gives the meaning of another library",
    "https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html",
)
_SEED: Final = Event(
    "a seed that has no effect, or a generator whose distribution is another",
    "https://github.com/pytorch/pytorch/issues/62467",
)
_IMPORT: Final = Event(
    "a library that changes a global default of torch at its import",
    "https://github.com/torchmd/torchmd-net/pull/327",
)


def _call(name: str, families: str, event: Event = _EDGES) -> Fault:
    return _any(f"call.{name}", "calls.means_something_else", families, event, name=name)


def _any(fault: str, function: str, families: str, event: Event, **arguments: Any) -> Fault:
    checks = tuple(each if "." in each else f"tensor_ops.{each}" for each in families.split())
    return Fault(
        name=fault,
        kind="semantics",
        where="any",
        event=event,
        inject=(Injection(function, arguments),),
        trips=checks,
    )


def _default(name: str, function: str, **arguments: Any) -> Fault:
    """A default that a library changed: reported by one check and no other."""
    return Fault(
        name=f"default.{name}",
        kind="semantics",
        where="host",
        event=_IMPORT,
        inject=(Injection(f"calls.{function}", arguments),),
        trips=("torch_version.defaults",),
        spares=("torch_version.numpy_scalars", "numpy_sharing.scalars"),
    )


def _attention(name: str) -> Fault:
    return _any(
        f"call.attention_{name}", "attention.means_something_else", "neural", _EDGES, name=name
    )


CALLS: Final = (
    _attention("causal_ignored"),
    _attention("causal_late_by_one"),
    _attention("scale_ignored"),
    _call("view_copies", "views", _VIEWS),
    _call("t_copies", "views", _VIEWS),
    _call("clone_shares", "views", _VIEWS),
    _call("tensor_narrow_off_by_one", "views", _VIEWS),
    _call("add_copies", "in_place", _IN_PLACE),
    _call("copy_does_nothing", "in_place", _IN_PLACE),
    _call("t_in_place_copies", "in_place", _IN_PLACE),
    _call("mul_gives_another", "in_place", _IN_PLACE),
    _call("item_is_real", "item"),
    _call("tolist_is_flat", "item"),
    _call("bool_is_true", "item"),
    _call("index_off_by_one", "indexing"),
    _call("long_rounds", "conversion"),
    _call("ones_without_gradient", "creation"),
    _call("zeros_uninitialised", "creation"),
    _call("narrow_off_by_one", "slicing"),
    _call("remainder_of_c", "integer_division"),
    _call("floor_divide_truncates", "integer_division"),
    _call("round_half_up", "rounding"),
    _call("argmax_last_of_ties", "reductions"),
    _call("sort_unstable", "sorting"),
    _call("index_add_loses_duplicates", "scatter"),
    _call("minimum_ignores_nan", "comparison"),
    _call("addmm_multiplies_by_zero", "not_finite"),
    _call("equal_is_true", "comparison"),
    _call("allclose_is_true", "comparison"),
    _call("exp_in_half", "elementwise"),
    _call("rand_unseeded", "random_seeds", _SEED),
    _call("rand_constant", "random_moments", _SEED),
    _call("randn_too_wide", "random_moments", _SEED),
    _call("randint_even", "random_moments", _SEED),
    _call("manual_seed_ignored", "random_seeds", _SEED),
    _default("dtype", "default_dtype", dtype="float64"),
    _default("device", "default_device", device="meta"),
    _default("deterministic", "deterministic"),
    _default("autocast", "autocast"),
    _any("default.gradients_off", "calls.gradients_off", "autograd.grad_enabled", _IMPORT),
)

"""Ways to break torch below `observe`: each trips the check of its family."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from probes.faults.inject.calls import last_of_ties, off_by_one, unstable
from probes.tensor_ops import probe
from tests.probes.corrupt import (
    Corrupt,
    Fault,
    flipped,
    last,
    lowest_bit,
    nan,
    shifted,
    slightly_larger,
    slightly_smaller,
    swapped,
    tripped_families,
    zeros,
)

pytestmark = pytest.mark.slow


def tripped_checks(*families: str) -> set[str]:
    """The checks that trip, of the given families only, to save time."""
    return tripped_families(probe, *families)


#: (operator, fault, family that must trip)
_OPERATORS: list[tuple[str, Fault, str]] = [
    ("zeros", lambda out: last(out).fill_(1), "creation"),
    ("arange", shifted, "creation"),
    ("eye", shifted, "creation"),
    ("_to_copy", lowest_bit, "conversion"),
    ("add", lowest_bit, "arithmetic"),
    ("mul", nan, "arithmetic"),
    ("div", slightly_larger, "arithmetic"),
    ("lerp", slightly_smaller, "arithmetic"),
    ("add_", slightly_larger, "in_place"),
    ("addcdiv_", zeros, "in_place"),
    ("masked_fill_", zeros, "in_place"),
    ("roll", shifted, "transposing"),
    ("flip", swapped, "transposing"),
    ("clone", swapped, "transposing"),
    ("index", shifted, "indexing"),
    ("gather", swapped, "indexing"),
    ("index_select", lowest_bit, "indexing"),
    ("tril", nan, "slicing"),
    ("diag_embed", shifted, "slicing"),
    ("cat", shifted, "joining"),
    ("constant_pad_nd", shifted, "joining"),
    ("fmod", lowest_bit, "integer_division"),
    ("bitwise_right_shift", lowest_bit, "bitwise"),
    ("bitwise_xor", lowest_bit, "bitwise"),
    ("trunc", lowest_bit, "rounding"),
    ("lt", flipped, "comparison"),
    ("where", lowest_bit, "comparison"),
    ("maximum", lowest_bit, "comparison"),
    ("isnan", flipped, "comparison"),
    ("exp", nan, "special_values"),
    ("pow", zeros, "special_values"),
    ("sum", lowest_bit, "reductions"),
    ("amax", slightly_smaller, "reductions"),
    ("cumsum", swapped, "reductions"),
    ("var", slightly_larger, "reductions"),
    ("sort", swapped, "sorting"),
    ("topk", swapped, "sorting"),
    ("searchsorted", lowest_bit, "sorting"),
    ("scatter_add", lowest_bit, "scatter"),
    ("index_put_", slightly_larger, "scatter"),
    ("cumsum", lowest_bit, "large"),
    ("sum", lowest_bit, "large"),
    ("mm", lambda out: out.fill_(7), "empty"),
    ("exp", slightly_larger, "elementwise"),
    ("log", slightly_smaller, "elementwise"),
    ("tanh", nan, "elementwise"),
    ("atan2", swapped, "elementwise"),
    ("gelu", slightly_larger, "neural"),
    ("_softmax", slightly_larger, "neural"),
    ("native_layer_norm", slightly_smaller, "neural"),
    ("embedding", shifted, "neural"),
    ("mm", zeros, "matmul_exact"),
    ("mm", lowest_bit, "matmul_exact"),
    ("bmm", slightly_larger, "matmul_exact"),
    ("addmm", nan, "matmul_exact"),
    ("mm", slightly_larger, "float32_matmul"),
    ("convolution", lowest_bit, "convolution"),
    ("convolution", slightly_larger, "float32_convolution"),
    ("rand", lowest_bit, "random_mersenne"),
    ("randn", slightly_smaller, "random_mersenne"),
    ("uniform_", slightly_larger, "random_mersenne"),
    ("randperm", zeros, "random_moments"),
    ("multinomial", zeros, "random_moments"),
    ("bernoulli", zeros, "random_moments"),
]


@pytest.mark.parametrize(
    ("operator", "fault", "family"),
    _OPERATORS,
    ids=[f"{name}-{getattr(fault, '__name__', '')}-{family}" for name, fault, family in _OPERATORS],
)
def test_corrupted_operator(operator: str, fault: Fault, family: str) -> None:
    """A wrong kernel trips the check of its family, without an error."""
    with Corrupt(operator, fault) as corrupt:
        found = tripped_checks(family)

    assert corrupt.count > 0
    assert found == {family}


def test_wrong_only_when_large() -> None:
    """A product beyond 65535 blocks, and a sum beyond a million elements, lose their end."""

    def tail(out: torch.Tensor) -> None:
        if out.numel() > 2**18:
            last(out).add_(1)

    with Corrupt("bmm", tail):
        assert tripped_checks("matmul_exact") == {"matmul_exact"}
    with Corrupt("add", tail):
        assert tripped_checks("large", "arithmetic") == {"large"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_wrong_in_one_type(dtype: torch.dtype) -> None:
    """A kernel that is wrong for one element type only."""

    def one_type(out: torch.Tensor) -> None:
        if out.dtype == dtype:
            nan(out)

    for operator, family in (("mm", "matmul_exact"), ("convolution", "convolution")):
        with Corrupt(operator, one_type):
            assert tripped_checks(family) == {family}


def _tf32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor rounded to the 10 bits of fraction of TF32."""
    if tensor.dtype != torch.float32:
        return tensor
    return ((tensor.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def _tf32_mm(original: Any) -> Any:
    return lambda a, b, **options: original(_tf32(a), _tf32(b), **options)


def _tf32_convolution(original: Any) -> Any:
    return lambda x, weight, *rest: original(_tf32(x), _tf32(weight), *rest)


def _last_duplicate_only(original: Any) -> Any:
    """`index_add` that adds only the last of duplicates."""

    def add(x: torch.Tensor, axis: int, index: torch.Tensor, source: torch.Tensor, **_: Any) -> Any:
        done = x.clone()
        for place, row in zip(index.tolist(), source, strict=True):
            done[place] = x[place] + row
        return done

    return add


def _unseeded(original: Any) -> Any:
    def rand(*shape: Any, generator: Any = None, **options: Any) -> Any:
        return original(*shape, **options)

    return rand


#: (owner below torch, name, break, family that must trip)
_CALLS: list[tuple[str, str, Callable[[Any], Any], str]] = [
    ("Tensor", "view", lambda original: lambda x, *shape: original(x, *shape).clone(), "views"),
    ("Tensor", "t", lambda original: lambda x: original(x).clone(), "views"),
    ("Tensor", "clone", lambda _: lambda x: x[...], "views"),
    ("Tensor", "narrow", off_by_one, "views"),
    ("Tensor", "add_", lambda _: lambda x, other: x + other, "in_place"),
    ("Tensor", "copy_", lambda _: lambda x, other: x, "in_place"),
    ("Tensor", "t_", lambda _: lambda x: x.t(), "in_place"),
    ("Tensor", "mul_", lambda original: lambda x, other: original(x, other).clone(), "in_place"),
    ("Tensor", "item", lambda original: lambda x: float(original(x).real), "item"),
    ("Tensor", "tolist", lambda original: lambda x: original(x.contiguous().flatten()), "item"),
    ("Tensor", "__bool__", lambda _: lambda x: True, "item"),
    (
        "Tensor",
        "__getitem__",
        lambda original: lambda x, at: original(x.roll(1, 0), at),
        "indexing",
    ),
    ("Tensor", "long", lambda _: lambda x: x.round().to(torch.int64), "conversion"),
    (
        "",
        "ones",
        lambda original: lambda *a, **o: original(*a, **{**o, "requires_grad": False}),
        "creation",
    ),
    ("", "zeros", lambda _: torch.empty, "creation"),
    ("", "narrow", off_by_one, "slicing"),
    ("", "remainder", lambda _: torch.fmod, "integer_division"),
    (
        "",
        "floor_divide",
        lambda _: lambda a, b, **o: torch.div(a, b, rounding_mode="trunc", **o),
        "integer_division",
    ),
    ("", "round", lambda _: lambda x, **o: torch.floor(x + 0.5, **o), "rounding"),
    ("", "argmax", last_of_ties, "reductions"),
    ("", "sort", unstable, "sorting"),
    ("", "index_add", _last_duplicate_only, "scatter"),
    ("", "minimum", lambda _: torch.fmin, "comparison"),
    ("", "equal", lambda _: lambda a, b: True, "comparison"),
    ("", "allclose", lambda _: lambda a, b, **o: True, "comparison"),
    ("", "exp", lambda original: lambda x, **o: original(x.half().to(x.dtype), **o), "elementwise"),
    (
        "",
        "sqrt",
        lambda original: (
            lambda x, **o: (
                original(x.float(), **o) if not o and x.dtype == torch.float64 else original(x, **o)
            )
        ),
        "elementwise",
    ),
    ("", "mm", _tf32_mm, "float32_matmul"),
    ("nn.functional", "conv2d", _tf32_convolution, "float32_convolution"),
    ("", "rand", _unseeded, "random_seeds"),
    ("", "rand", lambda original: lambda *a, **o: original(*a, **o) * 0 + 0.5, "random_moments"),
    ("", "randn", lambda original: lambda *a, **o: original(*a, **o) * 1.1, "random_moments"),
    ("", "randint", lambda original: lambda *a, **o: original(*a, **o) // 2 * 2, "random_moments"),
    ("", "manual_seed", lambda _: lambda seed: None, "random_seeds"),
]


@pytest.mark.parametrize(
    ("owner", "name", "wrong", "family"),
    _CALLS,
    ids=[f"{owner}.{name}-{family}" for owner, name, _, family in _CALLS],
)
def test_replaced_call(
    owner: str,
    name: str,
    wrong: Callable[[Any], Any],
    family: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong call trips the check of its family."""
    place: Any = torch
    for part in filter(None, owner.split(".")):
        place = getattr(place, part)
    monkeypatch.setattr(place, name, wrong(getattr(place, name)))

    assert tripped_checks(family) == {family}


def test_short_products_leave_integers_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers are exact in TF32, so a GPU that uses it by default trips no other check."""
    monkeypatch.setattr(torch, "mm", _tf32_mm(torch.mm))
    short = _tf32_convolution(torch.nn.functional.conv2d)
    monkeypatch.setattr(torch.nn.functional, "conv2d", short)

    assert tripped_checks(
        "matmul_exact", "convolution", "float32_matmul", "float32_convolution"
    ) == {
        "float32_matmul",
        "float32_convolution",
    }


@contextmanager
def flushed() -> Iterator[None]:
    """Subnormals flushed to zero by the processor itself, in NumPy too."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def test_flushed_subnormals() -> None:
    """Found although NumPy flushes them too, and no other check trips."""
    with flushed():
        assert np.float32(1e-40) * np.float32(1) == 0
        found = tripped_checks("subnormals", "arithmetic", "special_values", "matmul_exact")

    assert found == {"subnormals"}


def test_operation_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported with its error text; the rest of its family is still compared."""

    def raise_error(*_args: Any, **_options: Any) -> None:
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(torch, "bmm", raise_error)
    monkeypatch.setattr(probe, "FAMILIES", {"matmul_exact": probe.FAMILIES["matmul_exact"]})

    comparisons = probe.observe("cpu").families["matmul_exact"]

    assert [each.operation for each in comparisons if not each.holds] == ["bmm"]
    assert "no kernel image" in next(each.problem for each in comparisons if not each.holds)
    assert len(comparisons) > 10


def test_default_type_changed() -> None:
    """If a library changed the default type at import, `creation` fails."""
    torch.set_default_dtype(torch.float64)
    try:
        found = tripped_checks("creation", "arithmetic")
    finally:
        torch.set_default_dtype(torch.float32)

    assert "creation" in found

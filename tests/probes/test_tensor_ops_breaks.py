"""Ways to break torch below `observe`: each trips the check of its family."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from probes.faults.inject.calls import last_of_ties, off_by_one, unstable
from probes.tensor_ops import probe
from tests.probes.verdicts import tripped

pytestmark = pytest.mark.slow

Fault = Callable[[torch.Tensor], object]  # spoils an output, in place


def tripped_checks(*families: str) -> set[str]:
    """The checks that trip, of the given families only, to save time."""
    chosen = {name: probe.FAMILIES[name] for name in families}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "FAMILIES", chosen)
        found = tripped(probe.judge(probe.observe("cpu")))
    return {each.removeprefix("tensor_ops.") for each in found}


class Corrupt(TorchDispatchMode):
    """Spoils every output of one operator, in all its overloads."""

    def __init__(self, operator: str, fault: Fault, *, calls: range = range(10**9)) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operator, self.fault, self.calls = operator, fault, calls
        self.count = 0
        self.inside = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operator, then spoil its output."""
        out = func(*args, **(kwargs or {}))
        if self.inside or func.overloadpacket._qualified_op_name != f"aten::{self.operator}":
            return out
        self.inside = True
        if self.count in self.calls:
            for each in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(each, torch.Tensor) and each.numel():
                    self.fault(each)
        self.count += 1
        self.inside = False
        return out


def _last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[tuple(slice(-1, None) for _ in tensor.shape)]


def zeros(out: torch.Tensor) -> None:
    """Set all to zero: the kernel wrote nothing, and its memory was zero."""
    out.zero_()


def slightly_larger(out: torch.Tensor) -> None:
    """Multiply by 1.001."""
    if out.is_floating_point() or out.is_complex():
        out.mul_(1.001)


def slightly_smaller(out: torch.Tensor) -> None:
    """Multiply by 0.999."""
    if out.is_floating_point() or out.is_complex():
        out.mul_(0.999)


def lowest_bit(out: torch.Tensor) -> None:
    """Flip the lowest bit of the last element."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    last = _last(out)
    last.copy_((last.clone().view(kinds[out.element_size()]) ^ 1).view(out.dtype))


def nan(out: torch.Tensor) -> None:
    """Set the last element to NaN."""
    if out.is_floating_point() or out.is_complex():
        _last(out).fill_(float("nan"))


def swapped(out: torch.Tensor) -> None:
    """Exchange the last two elements in memory."""
    pair = out.reshape(-1)[-2:].flip(0)
    if out.numel() > 1 and out.is_contiguous():
        out.view(-1)[-2:] = pair


def shifted(out: torch.Tensor) -> None:
    """Move every element by one: an address that is off by one."""
    out.copy_(out.reshape(-1).roll(1).reshape(out.shape))


def flipped(out: torch.Tensor) -> None:
    """Negate the last element as a boolean."""
    _last(out).logical_not_()


#: (operator, fault, family that must trip)
_OPERATORS: list[tuple[str, Fault, str]] = [
    ("zeros", lambda out: _last(out).fill_(1), "creation"),
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
    ("erfc", slightly_larger, "elementwise"),
    ("tanh", nan, "elementwise"),
    ("atan2", swapped, "elementwise"),
    ("_fft_c2c", slightly_larger, "complex_numbers"),
    ("angle", slightly_smaller, "complex_numbers"),
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
    ("_linalg_solve_ex", slightly_larger, "linalg_solve"),
    ("linalg_inv_ex", zeros, "linalg_solve"),
    ("_linalg_svd", slightly_smaller, "linalg_decompose"),
    ("_linalg_eigh", slightly_larger, "linalg_decompose"),
    ("linalg_qr", nan, "linalg_decompose"),
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


def test_wrong_only_at_the_first_call() -> None:
    """A decomposition that gives zeros at the first call only, as in a bug of torch."""
    with Corrupt("_linalg_svd", zeros, calls=range(1)):
        assert tripped_checks("linalg_decompose") == {"linalg_decompose"}


def test_wrong_only_at_a_later_call() -> None:
    """A result that is wrong after some right ones."""
    with Corrupt("_linalg_eigh", zeros, calls=range(5, 6)):
        assert tripped_checks("linalg_decompose") == {"linalg_decompose"}


def test_wrong_only_when_large() -> None:
    """A product beyond 65535 blocks, and a sum beyond a million elements, lose their end."""

    def tail(out: torch.Tensor) -> None:
        if out.numel() > 2**18:
            _last(out).add_(1)

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


def test_stale_output() -> None:
    """A kernel that leaves what its output held before."""
    original = torch.linalg.inv

    def stale(a: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        return original(a) if out is None else out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.linalg, "inv", stale)
        assert tripped_checks("linalg_solve") == {"linalg_solve"}


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
    ("", "conj", lambda _: lambda x: x, "complex_numbers"),
    ("", "mm", _tf32_mm, "float32_matmul"),
    ("nn.functional", "conv2d", _tf32_convolution, "float32_convolution"),
    (
        "linalg",
        "cholesky",
        lambda original: lambda a, **_: original(a @ a.mT + torch.eye(a.shape[-1])),
        "linalg_decompose",
    ),
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

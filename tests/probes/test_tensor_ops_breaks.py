"""torch broken from outside, below `observe`: each break trips the check that names it."""

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


def verdicts(*families: str) -> set[str]:
    """The checks of some families that trip now; the others are not tried, to be fast."""
    chosen = {name: probe.FAMILIES[name] for name in families}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "FAMILIES", chosen)
        found = tripped(probe.judge(probe.observe("cpu")))
    return {each.removeprefix("tensor_ops.") for each in found}


class Corrupt(TorchDispatchMode):
    """Spoils every output of one operator, whichever overload, after it was computed."""

    def __init__(self, operator: str, fault: Fault, *, calls: range = range(10**9)) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operator, self.fault, self.calls = operator, fault, calls
        self.count = 0
        self.inside = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call it, then spoil what it gave."""
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
    """The kernel did nothing, and the memory was zero."""
    out.zero_()


def more(out: torch.Tensor) -> None:
    """A thousandth too much."""
    if out.is_floating_point() or out.is_complex():
        out.mul_(1.001)


def less(out: torch.Tensor) -> None:
    """A thousandth too little."""
    if out.is_floating_point() or out.is_complex():
        out.mul_(0.999)


def bit(out: torch.Tensor) -> None:
    """The lowest bit of the last element."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    spot = _last(out)
    spot.copy_((spot.clone().view(kinds[out.element_size()]) ^ 1).view(out.dtype))


def nan(out: torch.Tensor) -> None:
    """One NaN, in the last element."""
    if out.is_floating_point() or out.is_complex():
        _last(out).fill_(float("nan"))


def swapped(out: torch.Tensor) -> None:
    """Neighbours at the end of memory exchanged."""
    pair = out.reshape(-1)[-2:].flip(0)
    if out.numel() > 1 and out.is_contiguous():
        out.view(-1)[-2:] = pair


def shifted(out: torch.Tensor) -> None:
    """Every element one place further, as by an address that is off by one."""
    out.copy_(out.reshape(-1).roll(1).reshape(out.shape))


def flipped(out: torch.Tensor) -> None:
    """Truth turned around in the last element."""
    _last(out).logical_not_()


#: (operator, fault, family that must trip)
_OPERATORS: list[tuple[str, Fault, str]] = [
    ("zeros", lambda out: _last(out).fill_(1), "creation"),
    ("arange", shifted, "creation"),
    ("eye", shifted, "creation"),
    ("_to_copy", bit, "conversion"),
    ("add", bit, "arithmetic"),
    ("mul", nan, "arithmetic"),
    ("div", more, "arithmetic"),
    ("lerp", less, "arithmetic"),
    ("add_", more, "in_place"),
    ("addcdiv_", zeros, "in_place"),
    ("masked_fill_", zeros, "in_place"),
    ("roll", shifted, "transposing"),
    ("flip", swapped, "transposing"),
    ("clone", swapped, "transposing"),
    ("index", shifted, "indexing"),
    ("gather", swapped, "indexing"),
    ("index_select", bit, "indexing"),
    ("tril", nan, "slicing"),
    ("diag_embed", shifted, "slicing"),
    ("cat", shifted, "joining"),
    ("constant_pad_nd", shifted, "joining"),
    ("fmod", bit, "integer_division"),
    ("bitwise_right_shift", bit, "bitwise"),
    ("bitwise_xor", bit, "bitwise"),
    ("trunc", bit, "rounding"),
    ("lt", flipped, "comparison"),
    ("where", bit, "comparison"),
    ("maximum", bit, "comparison"),
    ("isnan", flipped, "comparison"),
    ("exp", nan, "special_values"),
    ("pow", zeros, "special_values"),
    ("sum", bit, "reductions"),
    ("amax", less, "reductions"),
    ("cumsum", swapped, "reductions"),
    ("var", more, "reductions"),
    ("sort", swapped, "sorting"),
    ("topk", swapped, "sorting"),
    ("searchsorted", bit, "sorting"),
    ("scatter_add", bit, "scatter"),
    ("index_put_", more, "scatter"),
    ("cumsum", bit, "large"),
    ("sum", bit, "large"),
    ("mm", lambda out: out.fill_(7), "empty"),
    ("exp", more, "elementwise"),
    ("log", less, "elementwise"),
    ("erfc", more, "elementwise"),
    ("tanh", nan, "elementwise"),
    ("atan2", swapped, "elementwise"),
    ("_fft_c2c", more, "complex_numbers"),
    ("angle", less, "complex_numbers"),
    ("gelu", more, "neural"),
    ("_softmax", more, "neural"),
    ("native_layer_norm", less, "neural"),
    ("embedding", shifted, "neural"),
    ("mm", zeros, "matmul_exact"),
    ("mm", bit, "matmul_exact"),
    ("bmm", more, "matmul_exact"),
    ("addmm", nan, "matmul_exact"),
    ("mm", more, "float32_matmul"),
    ("convolution", bit, "convolution"),
    ("convolution", more, "float32_convolution"),
    ("_linalg_solve_ex", more, "linalg_solve"),
    ("linalg_inv_ex", zeros, "linalg_solve"),
    ("_linalg_svd", less, "linalg_decompose"),
    ("_linalg_eigh", more, "linalg_decompose"),
    ("linalg_qr", nan, "linalg_decompose"),
    ("rand", bit, "random_mersenne"),
    ("randn", less, "random_mersenne"),
    ("uniform_", more, "random_mersenne"),
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
    """A wrong kernel trips the check of its family, and nothing about it raises."""
    with Corrupt(operator, fault) as corrupt:
        found = verdicts(family)

    assert corrupt.count > 0
    assert found == {family}


def test_wrong_only_at_the_first_call() -> None:
    """A decomposition that gives zeros at first, as one once did, and is right afterwards."""
    with Corrupt("_linalg_svd", zeros, calls=range(1)):
        assert verdicts("linalg_decompose") == {"linalg_decompose"}


def test_wrong_only_at_a_later_call() -> None:
    """An answer that goes wrong after some right ones."""
    with Corrupt("_linalg_eigh", zeros, calls=range(5, 6)):
        assert verdicts("linalg_decompose") == {"linalg_decompose"}


def test_wrong_only_when_large() -> None:
    """A product beyond 65535 blocks, and a sum beyond a million elements, lose their end."""

    def tail(out: torch.Tensor) -> None:
        if out.numel() > 2**18:
            _last(out).add_(1)

    with Corrupt("bmm", tail):
        assert verdicts("matmul_exact") == {"matmul_exact"}
    with Corrupt("add", tail):
        assert verdicts("large", "arithmetic") == {"large"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_wrong_in_one_type(dtype: torch.dtype) -> None:
    """A kernel that is wrong for one element type only."""

    def one_type(out: torch.Tensor) -> None:
        if out.dtype == dtype:
            nan(out)

    for operator, family in (("mm", "matmul_exact"), ("convolution", "convolution")):
        with Corrupt(operator, one_type):
            assert verdicts(family) == {family}


def test_stale_output() -> None:
    """A kernel that leaves what its output held before."""
    kept = torch.linalg.inv

    def stale(a: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        return kept(a) if out is None else out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.linalg, "inv", stale)
        assert verdicts("linalg_solve") == {"linalg_solve"}


def _tf32(tensor: torch.Tensor) -> torch.Tensor:
    """Rounded to the 10 bits of mantissa that TF32 has."""
    if tensor.dtype != torch.float32:
        return tensor
    return ((tensor.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def _tf32_mm(kept: Any) -> Any:
    return lambda a, b, **options: kept(_tf32(a), _tf32(b), **options)


def _tf32_convolution(kept: Any) -> Any:
    return lambda x, weight, *rest: kept(_tf32(x), _tf32(weight), *rest)


def _once(kept: Any) -> Any:
    """Of duplicates only the last counts."""

    def add(x: torch.Tensor, axis: int, index: torch.Tensor, source: torch.Tensor, **_: Any) -> Any:
        done = x.clone()
        for place, row in zip(index.tolist(), source, strict=True):
            done[place] = x[place] + row
        return done

    return add


def _unseeded(kept: Any) -> Any:
    def rand(*shape: Any, generator: Any = None, **options: Any) -> Any:
        return kept(*shape, **options)

    return rand


#: (owner below torch, name, break, family that must trip)
_CALLS: list[tuple[str, str, Callable[[Any], Any], str]] = [
    ("Tensor", "view", lambda kept: lambda x, *shape: kept(x, *shape).clone(), "views"),
    ("Tensor", "t", lambda kept: lambda x: kept(x).clone(), "views"),
    ("Tensor", "clone", lambda _: lambda x: x[...], "views"),
    ("Tensor", "narrow", off_by_one, "views"),
    ("Tensor", "add_", lambda _: lambda x, other: x + other, "in_place"),
    ("Tensor", "copy_", lambda _: lambda x, other: x, "in_place"),
    ("Tensor", "t_", lambda _: lambda x: x.t(), "in_place"),
    ("Tensor", "mul_", lambda kept: lambda x, other: kept(x, other).clone(), "in_place"),
    ("Tensor", "item", lambda kept: lambda x: float(kept(x).real), "item"),
    ("Tensor", "tolist", lambda kept: lambda x: kept(x.contiguous().flatten()), "item"),
    ("Tensor", "__bool__", lambda _: lambda x: True, "item"),
    ("Tensor", "__getitem__", lambda kept: lambda x, at: kept(x.roll(1, 0), at), "indexing"),
    ("Tensor", "long", lambda _: lambda x: x.round().to(torch.int64), "conversion"),
    (
        "",
        "ones",
        lambda kept: lambda *a, **o: kept(*a, **{**o, "requires_grad": False}),
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
    ("", "index_add", _once, "scatter"),
    ("", "minimum", lambda _: torch.fmin, "comparison"),
    ("", "equal", lambda _: lambda a, b: True, "comparison"),
    ("", "allclose", lambda _: lambda a, b, **o: True, "comparison"),
    ("", "exp", lambda kept: lambda x, **o: kept(x.half().to(x.dtype), **o), "elementwise"),
    (
        "",
        "sqrt",
        lambda kept: (
            lambda x, **o: (
                kept(x.float(), **o) if not o and x.dtype == torch.float64 else kept(x, **o)
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
        lambda kept: lambda a, **_: kept(a @ a.mT + torch.eye(a.shape[-1])),
        "linalg_decompose",
    ),
    ("", "rand", _unseeded, "random_seeds"),
    ("", "rand", lambda kept: lambda *a, **o: kept(*a, **o) * 0 + 0.5, "random_moments"),
    ("", "randn", lambda kept: lambda *a, **o: kept(*a, **o) * 1.1, "random_moments"),
    ("", "randint", lambda kept: lambda *a, **o: kept(*a, **o) // 2 * 2, "random_moments"),
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
    """A call that does something else trips the check of its family."""
    place: Any = torch
    for part in filter(None, owner.split(".")):
        place = getattr(place, part)
    monkeypatch.setattr(place, name, wrong(getattr(place, name)))

    assert verdicts(family) == {family}


def test_short_products_leave_integers_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers are exact in TF32, so that a GPU which uses it by default trips nothing else."""
    monkeypatch.setattr(torch, "mm", _tf32_mm(torch.mm))
    short = _tf32_convolution(torch.nn.functional.conv2d)
    monkeypatch.setattr(torch.nn.functional, "conv2d", short)

    assert verdicts("matmul_exact", "convolution", "float32_matmul", "float32_convolution") == {
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
    """Seen although NumPy flushes them as well, and as nothing but that."""
    with flushed():
        assert np.float32(1e-40) * np.float32(1) == 0
        found = verdicts("subnormals", "arithmetic", "special_values", "matmul_exact")

    assert found == {"subnormals"}


def test_operation_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails by itself, with its text; the rest of its family is still judged."""

    def refuses(*_args: Any, **_options: Any) -> None:
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(torch, "bmm", refuses)
    monkeypatch.setattr(probe, "FAMILIES", {"matmul_exact": probe.FAMILIES["matmul_exact"]})

    seen = probe.observe("cpu").families["matmul_exact"]

    assert [each.operation for each in seen if not each.holds] == ["bmm"]
    assert "no kernel image" in next(each.problem for each in seen if not each.holds)
    assert len(seen) > 10


def test_default_type_changed() -> None:
    """A library that changed the default type at import shows in what the factories make."""
    torch.set_default_dtype(torch.float64)
    try:
        found = verdicts("creation", "arithmetic")
    finally:
        torch.set_default_dtype(torch.float32)

    assert "creation" in found

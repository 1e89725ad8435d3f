"""Numerics that hide: first calls, NaN that is swallowed, short sums, float64 made in float32."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from probes.contract import Comparison, Finding
from probes.faults.inject.patterns import swallowed
from probes.kit.case import Array
from probes.kit.precision import read
from probes.kit.trial import run_trials
from probes.tensor_ops import accumulation, double, elementwise, probe
from tests.probes.corrupt import Corrupt, InSingle, tripped_families
from tests.probes.test_tensor_ops import gpu, on, sound, with_families

#: The families that hold what hides.
HIDDEN = ("not_finite", "accumulation", "double")


class FirstCalls(TorchDispatchMode):
    """Notes how many elements the first call of each operation got, and whether all were finite."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.first: dict[str, tuple[int, bool]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note it, and call it."""
        name = func._schema.name.removeprefix("aten::")
        if name not in self.first and args and isinstance(args[0], torch.Tensor):
            self.first[name] = (args[0].numel(), bool(args[0].isfinite().all()))
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
def test_a_function_first_gets_many_ordinary_numbers() -> None:
    """Special values come after them, in every process."""
    functions = {*elementwise._UNARY, *elementwise._BINARY} - {"reciprocal"}
    functions |= {"gelu", "silu", "softplus", "elu", "_softmax", "_log_softmax", "logsumexp"}
    with FirstCalls() as calls:
        probe.observe("cpu")

    few = {name: calls.first[name] for name in functions if calls.first[name] < (1000, True)}
    assert few == {}
    assert all(finite for _, finite in (calls.first[name] for name in functions))


def _first_call_only(original: Any) -> Any:
    """`exp` whose first call is of low accuracy."""
    calls: list[int] = []

    def exp(x: torch.Tensor, **options: Any) -> torch.Tensor:
        calls.append(1)
        out: torch.Tensor = original(x, **options)
        return out if calls[1:] else out.bfloat16().to(out.dtype)

    return exp


def test_a_wrong_first_call_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives right infinities, ones and NaN: special values would not show it."""
    exp = torch.exp
    monkeypatch.setattr(torch, "exp", _first_call_only(exp))
    assert tripped_families(probe, "elementwise", "special_values") == {"elementwise"}

    monkeypatch.setattr(torch, "exp", _first_call_only(exp))
    assert tripped_families(probe, "special_values", "elementwise") == set()


SWALLOWING = (
    *("mm", "bmm", "mv", "dot", "addmm", "where", "masked_fill", "clamp", "sub", "convolution"),
    *("max_pool2d_with_indices", "avg_pool2d", "relu", "leaky_relu", "gelu", "silu", "softplus"),
    *("sum", "mean", "amax", "amin", "max", "min", "aminmax", "cumsum", "prod", "cumprod", "var"),
    *("linalg_vector_norm", "sort", "topk", "kthvalue", "median", "_softmax", "_log_softmax"),
    *("native_layer_norm", "mse_loss"),
)


@pytest.mark.parametrize("operator", SWALLOWING)
def test_a_swallowed_nan_is_seen(operator: str) -> None:
    """NaN becomes 0 in the results of one operation."""
    with Corrupt(operator, swallowed) as corrupt:
        found = tripped_families(probe, "not_finite")

    assert corrupt.count > 0
    assert found == {"not_finite"}


def _leaks(original: Any) -> Any:
    """`where` as a sum of products with the mask: NaN in what is not taken stays."""

    def where(mask: torch.Tensor, x: Any, y: Any) -> torch.Tensor:
        return torch.as_tensor(mask * x + ~mask * y)

    return where


def _counts_no_nan(original: Any) -> Any:
    return lambda x, *a, **o: original(x.nan_to_num(nan=0.0, posinf=1.0), *a, **o)


def _ignores_nan(original: Any) -> Any:
    return lambda x, *a, **o: original(x.nan_to_num(-1e30), *a, **o)


def _adds_anyway(original: Any) -> Any:
    def product(added: Any, a: Any, b: Any, beta: float = 1, **options: Any) -> Any:
        return original(added, a, b, **options) if beta else added * 0 + original(added, a, b)

    return product


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("where", _leaks),
        ("addmm", _adds_anyway),
        ("addmv", _adds_anyway),
        ("baddbmm", _adds_anyway),
        ("addbmm", _adds_anyway),
        ("addr", _adds_anyway),
        ("topk", _ignores_nan),
        ("argmax", _ignores_nan),
        ("median", _ignores_nan),
        ("any", _counts_no_nan),
        ("count_nonzero", _counts_no_nan),
        ("logsumexp", _counts_no_nan),
    ],
)
def test_a_call_that_means_something_else_for_nan(
    name: str, change: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is documented for NaN and beta=0 is held."""
    monkeypatch.setattr(torch, name, change(getattr(torch, name)))

    assert tripped_families(probe, "not_finite") == {"not_finite"}


def rounded(values: Array, dtype: torch.dtype) -> Array:
    """The values rounded to a half type, as float32."""
    return np.asarray(torch.from_numpy(values.astype(np.float32)).to(dtype).float().numpy())


def terms() -> Array:
    """The products that an element of a product adds up: (8, 8, K)."""
    a = accumulation.factors(8, 221, alternating=True)
    b = accumulation.factors(8, 222, alternating=False)
    return a[:, None] * b[None]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("parts", [2, 3, 4, 5, 7, 8, 16, 21, 32, 64])
def test_a_product_may_be_split(dtype: torch.dtype, parts: int) -> None:
    """Sums of parts in float32, rounded and added up in the half type, as torch allows: exact."""
    blocks = terms().reshape(8, 8, -1, accumulation.BLOCK).sum(-1)
    total = blocks.sum(-1)
    sums = [rounded(part.sum(-1), dtype) for part in np.array_split(blocks, parts, -1)]
    for ordered in (sums, sums[::-1], sums[::2] + sums[1::2]):
        added = np.zeros_like(total)
        for each in ordered:
            added = rounded(added + each, dtype)
        assert (added == total).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 64])
def test_sums_in_the_half_type_are_wrong(dtype: torch.dtype, lanes: int) -> None:
    """Whether one after another or in lanes of a vector, most elements are wrong."""
    found = np.zeros((8, 8, lanes), np.float32)
    with np.errstate(invalid="ignore"):  # float16 overflows
        for step in np.moveaxis(terms().reshape(8, 8, -1, lanes), 2, 0):
            found = rounded(found + step, dtype)
        total = found[..., 0]
        for lane in range(1, lanes):
            total = rounded(total + found[..., lane], dtype)

    assert (total != terms().sum(-1)).mean() > 0.5


def in_half_steps(x: torch.Tensor, axis: int) -> torch.Tensor:
    """The sum along an axis, rounded after every addition."""
    total = torch.zeros_like(x.select(axis, 0))
    for each in x.unbind(axis):
        total = total + each
    return total


def _half_only(change: Callable[..., torch.Tensor]) -> Callable[[Any], Any]:
    """The change where the first operand is of a half type."""

    def make(original: Any) -> Any:
        def call(x: Any, *given: Any, **options: Any) -> Any:
            half = x.dtype in {torch.float16, torch.bfloat16}
            return (change if half else original)(x, *given, **options)

        return call

    return make


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return in_half_steps(a.unsqueeze(-1) * b.unsqueeze(-3), -2)


def _variance(x: torch.Tensor, axis: int, **_: Any) -> torch.Tensor:
    n = x.shape[axis]
    mean = in_half_steps(x, axis) / n
    return in_half_steps((x - mean.unsqueeze(axis)) ** 2, axis) / n


def _softmax(x: torch.Tensor, axis: int) -> torch.Tensor:
    shifted = (x - x.amax(axis, keepdim=True)).exp()
    return shifted / in_half_steps(shifted, axis).unsqueeze(axis)


def _layer_norm(x: torch.Tensor, _shape: Any) -> torch.Tensor:
    mean = (in_half_steps(x, 1) / x.shape[1]).unsqueeze(1)
    return (x - mean) / (_variance(x, 1).unsqueeze(1) + 1e-5).sqrt()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "change"),
    [
        (torch, "mm", _product),
        (torch, "bmm", _product),
        (torch, "addmm", lambda c, a, b: c + _product(a, b)),
        (torch, "mv", lambda a, v: _product(a, v[:, None])[:, 0]),
        (torch.nn.functional, "linear", lambda x, w: _product(x, w.t())),
        (torch, "sum", in_half_steps),
        (torch, "mean", lambda x, axis: in_half_steps(x, axis) / x.shape[axis]),
        (torch, "var", _variance),
        (torch, "softmax", _softmax),
        (torch, "log_softmax", lambda x, axis: _softmax(x, axis).log()),
        (torch, "logsumexp", lambda x, axis: in_half_steps(x.exp(), axis).log()),
        (torch.nn.functional, "layer_norm", _layer_norm),
        (torch.linalg, "vector_norm", lambda x, dim: in_half_steps(x * x, dim).sqrt()),
    ],
)
def test_half_sums_are_seen(
    owner: Any, name: str, change: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One operation that adds up in the half type."""
    monkeypatch.setattr(owner, name, _half_only(change)(getattr(owner, name)))

    assert tripped_families(probe, "accumulation") == {"accumulation"}


IN_SINGLE = (
    *("add", "sub", "mul", "div", "neg", "abs", "addcmul", "addcdiv", "lerp", "rsub", "frac"),
    *("floor", "ceil", "trunc", "round", "fmod", "remainder", "floor_divide", "eq", "ne", "lt"),
    *("le", "gt", "ge", "maximum", "minimum", "fmax", "fmin", "clamp", "where", "sign", "sum"),
    *("mean", "cumsum", "prod", "cumprod", "amax", "amin", "aminmax", "var", "std", "sort"),
    *("topk", "kthvalue", "median", "argmax", "argmin", "max", "min", "searchsorted", "bucketize"),
    *("linalg_vector_norm", "mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot"),
    *("addr", "linalg_cross", "cat", "flip", "roll", "tril", "gather", "index_select", "index_add"),
    *("scatter_add", "scatter_reduce", "scatter", "masked_fill", "clone", "relu", "gelu", "silu"),
    *("softplus", "elu", "_softmax", "_log_softmax", "native_layer_norm", "avg_pool2d"),
    *("max_pool2d_with_indices", "embedding", "mse_loss", "convolution", "nll_loss_forward"),
)


@pytest.mark.slow
@pytest.mark.parametrize("operator", IN_SINGLE)
def test_float64_computed_in_float32_is_seen(operator: str) -> None:
    """Each operation of the family, its operands and results rounded."""
    with InSingle(operator) as broken:
        found = tripped_families(probe, "double")

    assert broken.count > 0
    assert found == {"double"}


def test_a_device_without_float64_skips_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is a documented absence, so nothing is wrong."""

    def refuse(*_given: Any, **_options: Any) -> torch.Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64: MPS doesn't support float64")

    monkeypatch.setattr("probes.kit.trial.synchronize", lambda _device: None)
    monkeypatch.setattr(double, "has_dtype", lambda *_: False)
    monkeypatch.setattr(torch, "zeros", refuse)
    found, lacking = run_trials(probe.FAMILIES["double"]("mps"), "mps")
    observed = on("mps", not_implemented=("double",), lacking={"double": lacking})

    assert found == ()
    assert finding("double", observed).status == "skip"


def finding(check: str, observation: probe.Observation) -> Finding:
    """The finding of one check."""
    return next(each for each in probe.judge(observation) if each.id == f"tensor_ops.{check}")


def wrong(check: str, operation: str) -> dict[str, tuple[Comparison, ...]]:
    """A family with one wrong operation."""
    return {check: (Comparison(operation=operation, elements=9, mismatches=1),)}


@pytest.mark.parametrize(
    ("device", "status"), [("cpu", "fail"), ("cuda:0", "fail"), ("xpu:0", "warn"), ("mps", "warn")]
)
@pytest.mark.parametrize("check", ["not_finite", "accumulation"])
def test_what_is_known_of_some_back_ends_only(device: str, status: str, check: str) -> None:
    """Elsewhere nobody promises how NaN is ordered, and in which type sums are kept."""
    spoiled = with_families(sound(), **wrong(check, "mm (float16, first call)"))

    assert finding(check, on(device, spoiled)).status == status


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ("mm (float16, first call)", "skip"),
        ("nn.functional.linear (float16, first call)", "skip"),
        ("mm (bfloat16, first call)", "fail"),
        ("sum (float16, first call)", "fail"),
    ],
)
def test_a_setting_that_allows_sums_in_float16(operation: str, status: str) -> None:
    """It is about products of float16 alone."""
    spoiled = gpu(with_families(sound(), **wrong("accumulation", operation)))
    setting = spoiled.precision.model_copy(update={"half_sums_may_shorten": True})
    allowed = spoiled.model_copy(update={"precision": setting})

    assert finding("accumulation", allowed).status == status
    assert finding("accumulation", spoiled).status == "fail"


def test_the_setting_of_the_cpu_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only some processors let it be switched on, so the answer is replaced."""
    name = "_get_cpu_allow_fp16_reduced_precision_reduction"
    for allowed in (True, False):
        monkeypatch.setattr(torch._C, name, lambda: allowed, raising=False)  # noqa: B023
        assert read("cpu").half_sums_may_shorten is allowed


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "allow_fp16_accumulation"),
    reason="this torch has no such switch",
)
def test_the_setting_of_cuda_is_read() -> None:
    """It is off unless the user set it."""
    assert not read("cuda:0").half_sums_may_shorten
    torch.backends.cuda.matmul.allow_fp16_accumulation = True
    try:
        assert read("cuda:0").half_sums_may_shorten
        assert not read("cpu").half_sums_may_shorten
    finally:
        torch.backends.cuda.matmul.allow_fp16_accumulation = False

"""The probe `attention`: this image passes, faults trip their checks, bounds hold and are tight."""

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch

from probes.attention import (
    dropping,
    finite,
    kernels,
    layer,
    module,
    probe,
    problems,
    running,
    shapes,
)
from probes.attention.bounds import Units, exact, matmul, product, units
from probes.attention.problems import Problem
from probes.catalog import ATTENTION
from probes.contract import Comparison, Finding
from probes.faults.inject.attention import ATTENTIONS
from probes.kit import families
from probes.kit.trial import Custom
from tests.probes.corrupt import (
    Corrupt,
    Fault,
    five_per_cent,
    nan,
    shifted,
    swapped,
    tripped_families,
    zeros,
)
from tests.probes.verdicts import PLANTED, ids, tripped, tripped_alone

pytestmark = pytest.mark.slow

FORWARD = "_scaled_dot_product_flash_attention_for_cpu"
BACKWARD = f"{FORWARD}_backward"
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

#: Of each kind, with the largest sums of the probe.
TYPICAL = (
    Problem(2, 2, 64, 64, 16),
    Problem(1, 1, 257, 257, 128, causal=True, layout="transposed"),
    Problem(2, 2, 64, 192, 80, mask="bool", mask_axes="blk"),
    Problem(2, 2, 64, 64, 64, mask="float", mask_axes="hlk", layout="transposed"),
    Problem(2, 4, 64, 64, 64, groups=2),
    Problem(2, 1, 192, 192, 16, scale=0.03125, layout="packed"),
    *(each for each in shapes._PLAIN if each.batch == 3 or each.size > 80 or each.keys > 512),
    Problem(2, 2, 64, 64, 64, mask="additive", mask_axes="blk", layout="transposed"),
)


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


def on(device: str, **fields: Any) -> probe.Observation:
    """The observation as if it came from another device."""
    return sound().model_copy(
        update={"device": device, "back_end": torch.device(device).type, **fields}
    )


def finding(check: str, observation: probe.Observation) -> Finding:
    """The finding of one check."""
    return next(each for each in probe.judge(observation) if each.id == f"attention.{check}")


def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, every check is made, and nothing is left out."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(ATTENTION.check_ids)
    assert {each.status for each in findings} == {"pass"}
    assert (sound().skips, sound().lacking) == ({}, {})


def test_the_kernels_are_named() -> None:
    """Those that were run by name, and the one that torch picks for each type."""
    ran = {each.operation for each in sound().families["kernels"]}

    assert {f"math {running.name_of(dtype)}" for dtype in DTYPES} <= ran
    assert {f"flash_attention {running.name_of(dtype)}" for dtype in DTYPES} <= ran
    assert not {name for name in ran if name.startswith("cudnn")}
    assert sound().picked == {running.name_of(dtype): "flash_attention" for dtype in DTYPES}


@pytest.mark.parametrize("check", ATTENTION.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the operation is named."""
    failed = tripped_alone(
        probe.judge(on("cpu", families={**sound().families, check: PLANTED})), f"attention.{check}"
    )
    assert (failed.action, bool(failed.hint)) == ("investigate", True)


def tripped_in(dtype: torch.dtype, *families: str) -> set[str]:
    """The checks that trip, of these, where the device has one floating type alone."""
    with pytest.MonkeyPatch.context() as patch:
        for where in (shapes, finite, kernels, module, dropping):
            patch.setattr(where, "floats", lambda _device: (dtype,))
        return tripped_families(probe, *families)


@pytest.mark.parametrize("family", ["plain", "causal", "masks", "scale", "grouped_heads"])
@pytest.mark.parametrize("dtype", DTYPES, ids=running.name_of)
def test_an_output_that_is_five_per_cent_off(dtype: torch.dtype, family: str) -> None:
    """It is seen in each type, by each check of outputs."""
    with Corrupt(FORWARD, five_per_cent) as corrupt:
        found = tripped_in(dtype, family)

    assert corrupt.count > 0
    assert found == {family}


@pytest.mark.parametrize("dtype", DTYPES, ids=running.name_of)
@pytest.mark.parametrize("output", range(3), ids=["query", "key", "value"])
def test_a_gradient_that_is_five_per_cent_off(output: int, dtype: torch.dtype) -> None:
    """One of the three is enough, in each type."""
    turn = iter(range(10**9))

    def spoil(out: torch.Tensor) -> None:
        if next(turn) % 3 == output:
            out.mul_(0.95)

    with Corrupt(BACKWARD, spoil) as corrupt:
        found = tripped_in(dtype, "gradients")

    assert corrupt.count > 0
    assert found == {"gradients"}


#: (operator, fault, family that must trip)
OPERATORS: list[tuple[str, Fault, str]] = [
    (FORWARD, swapped, "plain"),
    (FORWARD, nan, "masks"),
    (FORWARD, zeros, "scale"),
    (FORWARD, shifted, "causal"),
    (FORWARD, zeros, "not_finite"),
    (BACKWARD, swapped, "gradients"),
    (BACKWARD, shifted, "gradients"),
    (BACKWARD, nan, "gradients"),
    (BACKWARD, zeros, "kernels"),
    (BACKWARD, five_per_cent, "module"),
    ("_safe_softmax", five_per_cent, "kernels"),
    ("_native_multi_head_attention", five_per_cent, "module"),
    ("addmm", five_per_cent, "module"),
]


@pytest.mark.parametrize(
    ("operator", "fault", "family"),
    OPERATORS,
    ids=[f"{row[0].strip('_')}-{row[1].__name__}-{row[2]}" for row in OPERATORS],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=running.name_of)
def test_corrupted_operator(operator: str, fault: Fault, family: str, dtype: torch.dtype) -> None:
    """A wrong kernel trips the check of its family in each type, without an error."""
    with Corrupt(operator, fault) as corrupt:
        found = tripped_in(dtype, family)

    assert corrupt.count > 0
    assert found == {family}


#: Name of a replaced meaning -> families that must trip, and families that must not.
MEANINGS = {
    "causal_ignored": ({"causal"}, {"plain"}),
    "causal_lower_right": ({"causal"}, {"plain"}),
    "causal_late_by_one": ({"causal"}, {"plain"}),
    "mask_ignored": ({"masks"}, {"causal"}),
    "mask_inverted": ({"masks"}, {"causal"}),
    "mask_of_the_first_head": ({"masks"}, {"causal"}),
    "scale_ignored": ({"scale"}, {"plain"}),
    "scale_without_root": ({"plain", "causal"}, {"scale"}),
    "dropout_ignored": ({"dropout"}, {"plain"}),
    "dropout_not_scaled": ({"dropout"}, {"plain"}),
    "heads_mixed_up": ({"grouped_heads"}, {"plain"}),
    "strides_ignored": ({"plain"}, {"grouped_heads"}),
    "not_finite_swallowed": ({"not_finite"}, {"plain"}),
    "module_drops_in_eval": ({"module"}, {"plain"}),
    "module_without_padding": ({"module"}, {"plain"}),
}


def test_every_meaning_is_tested() -> None:
    """None that the selftest injects is missing here."""
    assert MEANINGS.keys() == ATTENTIONS.keys()


@pytest.mark.parametrize("name", MEANINGS)
@pytest.mark.parametrize("dtype", DTYPES, ids=running.name_of)
def test_another_meaning(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention that means something else is seen in each type, by its own check."""
    function, make = ATTENTIONS[name]
    original = getattr(torch.nn.functional, function)
    monkeypatch.setattr(torch.nn.functional, function, make(original))
    trips, spares = MEANINGS[name]

    assert tripped_in(dtype, *trips, *spares) == trips


def half_of_the_share(original: Any, *given: Any, **options: Any) -> Any:
    """It drops half as much as it is told."""
    return original(*given, **{**options, "dropout_p": options.get("dropout_p", 0.0) / 2})


def twice_the_same(original: Any, *given: Any, **options: Any) -> Any:
    """It drops the same in each call."""
    torch.manual_seed(5)
    return original(*given, **options)


def alike_in_all_heads(original: Any, *given: torch.Tensor, **options: Any) -> Any:
    """It drops the same in each head."""
    heads = zip(*(each.split(1, 1) for each in given), strict=True)
    return torch.cat([twice_the_same(original, *each, **options) for each in heads], 1)


def in_float_alone(original: Any, *given: torch.Tensor, **options: Any) -> Any:
    """It drops nothing in half types."""
    if given[0].dtype in {torch.float16, torch.bfloat16}:
        options["dropout_p"] = 0.0
    return original(*given, **options)


class Undropped(torch.autograd.Function):
    """Attention whose backward does not drop what its forward dropped."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Any:
        """Drop."""
        ctx.save_for_backward(*given[:3])
        ctx.call, ctx.causal = given[3], given[5]
        return given[3](*given[:3], dropout_p=given[4], is_causal=given[5])

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        """Drop nothing."""
        leaves = [each.detach().requires_grad_() for each in ctx.saved_tensors]
        with torch.enable_grad():
            output = ctx.call(*leaves, is_causal=ctx.causal)
        return (*torch.autograd.grad(output, leaves, upstream), None, None, None)


def not_in_backward(original: Any, *given: Any, **options: Any) -> Any:
    """Its backward drops nothing."""
    causal = options.get("is_causal", False)
    return Undropped.apply(*given, original, options["dropout_p"], causal)  # type: ignore[no-untyped-call]


def five_per_cent_more(original: Any, *given: Any, **options: Any) -> Any:
    """What is left is scaled too much."""
    return original(*given, **options) * 1.05


@pytest.mark.parametrize(
    "attend",
    [
        half_of_the_share,
        twice_the_same,
        alike_in_all_heads,
        not_in_backward,
        five_per_cent_more,
        in_float_alone,
    ],
)
def test_dropout_that_is_another(attend: Callable[..., Any]) -> None:
    """How much is dropped, where, how the rest is scaled, and what backward drops."""
    with pytest.MonkeyPatch.context() as patch:
        where, name = torch.nn.functional, "scaled_dot_product_attention"
        patch.setattr(where, name, partial(attend, getattr(where, name)))

        assert tripped_families(probe, "dropout") == {"dropout"}


def test_a_module_that_drops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module's dropout in train() is looked at, apart from the function's."""
    original = torch.nn.functional.multi_head_attention_forward

    def attend(*given: Any, **options: Any) -> Any:
        return original(*given, **{**options, "training": False})

    monkeypatch.setattr(torch.nn.functional, "multi_head_attention_forward", attend)

    assert tripped_families(probe, "dropout", "module") == {"dropout"}


def test_dropout_leaves_the_random_state() -> None:
    """Dropout is drawn from a seed, and the user's numbers go on as if nothing had been drawn."""
    before = torch.get_rng_state()
    tripped_families(probe, "dropout")

    assert torch.equal(torch.get_rng_state(), before)


Call = tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]


def masked_by(call: Call) -> torch.Tensor:
    """The mask of a call, or an empty one."""
    mask: torch.Tensor = call[3].get("attn_mask", torch.zeros(0))
    return mask


#: What a kernel may be wrong for alone, and the family that must trip.
CALLS: dict[str, tuple[str, Callable[[Call], bool]]] = {
    "batches beyond 2": ("plain", lambda call: call[0].shape[0] > 2),
    "heads beyond 4": ("plain", lambda call: call[0].dim() == 4 and call[0].shape[1] > 4),
    "sizes beyond 128": ("plain", lambda call: call[0].shape[-1] > 128),
    "sizes that are no multiple of 8": ("plain", lambda call: call[0].shape[-1] % 8 != 0),
    "keys beyond 512": ("plain", lambda call: call[1].shape[-2] > 512),
    "values of another size": ("plain", lambda call: call[1].shape[-1] != call[2].shape[-1]),
    "no axis of heads": ("plain", lambda call: call[0].dim() == 3),
    "masks with -inf": ("masks", lambda call: bool(masked_by(call).isneginf().any())),
    "grouped heads and a mask": (
        "grouped_heads",
        lambda call: "enable_gqa" in call[3] and "attn_mask" in call[3],
    ),
}


class Larger(torch.autograd.Function):
    """Attention's output as it is; the gradient is 5 % larger."""

    @staticmethod
    def forward(_: Any, output: torch.Tensor) -> torch.Tensor:
        """The same."""
        return output.clone()

    @staticmethod
    def backward(_: Any, *upstream: torch.Tensor) -> torch.Tensor:
        """5 % more."""
        return upstream[0] * 1.05


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", DTYPES, ids=running.name_of)
def test_wrong_for_some_calls_alone(
    dtype: torch.dtype, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By 5 %, in each type; the check that makes such a call names it."""
    family, concerned = CALLS[name]
    original = torch.nn.functional.scaled_dot_product_attention
    wrong: list[Call] = []

    def attend(query: Any, key: Any, value: Any, **options: Any) -> torch.Tensor:
        output = original(query, key, value, **options)
        call = (query, key, value, options)
        if not concerned(call):
            return output
        wrong.append(call)
        return output * 1.05

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)

    assert tripped_in(dtype, family) == {family}
    assert wrong


@pytest.mark.parametrize("dtype", DTYPES, ids=running.name_of)
def test_a_backward_of_grouped_causal_heads_alone(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a kernel of its own."""
    original = torch.nn.functional.scaled_dot_product_attention

    def attend(*operands: Any, **options: Any) -> torch.Tensor:
        output = original(*operands, **options)
        if not {"enable_gqa", "is_causal"} <= options.keys():
            return output
        larger: torch.Tensor = Larger.apply(output)  # type: ignore[no-untyped-call]
        return larger

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)

    assert tripped_in(dtype, "gradients") == {"gradients"}


@pytest.mark.parametrize("dtype", DTYPES, ids=running.name_of)
def test_strides_of_a_mask_ignored(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of models are often the beginning of a longer one."""
    original = torch.nn.functional.scaled_dot_product_attention

    def attend(*operands: Any, **options: Any) -> torch.Tensor:
        mask = options.get("attn_mask")
        if mask is not None:
            dense = torch.empty(mask.shape).stride()
            options["attn_mask"] = mask.as_strided(mask.shape, dense)
        return original(*operands, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)

    assert tripped_in(dtype, "masks") == {"masks"}


def in_the_type(query: Any, key: Any, value: Any, **options: Any) -> torch.Tensor:
    """Torch's documented formula with every intermediate stored in the type of the operands."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    root = math.sqrt(options.get("scale") or 1 / math.sqrt(query.shape[-1]))
    scores = (query * root) @ (key * root).transpose(-1, -2)
    mask = options.get("attn_mask")
    if options.get("is_causal"):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=query.dtype).masked_fill(~mask, -math.inf)
    out: torch.Tensor = torch.softmax(scores if mask is None else scores + mask, -1) @ value
    return out


@pytest.mark.parametrize("dtype", DTYPES, ids=running.name_of)
def test_the_formula_in_short_is_within_the_bounds(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least exact way that is right is no false alarm, and uses some of what is allowed."""
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", in_the_type)
    by, shares = units("cpu", dtype), []
    for problem in TYPICAL:
        for compare in (running.compare_output, running.compare_gradients):
            assert [
                each.describe() for each in compare(problem, dtype, "cpu") if not each.holds
            ] == []
        out = running.Attempt(problem, "cpu", dtype).output().double().numpy()
        right = problems.expected(problem, by).output
        shares.append(float((np.abs(out - right.value) / right.error).max()))

    assert 0.01 < max(shares) < 0.5


def test_a_gain_below_the_bound_of_each_element_is_seen() -> None:
    """Rounding in the worst direction explains 5 % of a gradient in bfloat16; its mean does not."""
    problem, by = TYPICAL[0], units("cpu", torch.bfloat16)
    right = problems.gradients(problem, by)["query"]
    found = torch.from_numpy(1.05 * right.value).to(torch.bfloat16)
    elements, mean = running.compare_bounded("x (y)", found, right, torch.bfloat16, by)

    assert (elements.holds, mean.holds) == (True, False)
    assert mean.operation == "x (mean, y)"


def test_another_type_is_wrong() -> None:
    """However close its numbers are."""
    right = exact(np.ones((2, 2)))
    (found,) = running.compare_bounded(
        "x", torch.ones(2, 2), right, torch.float64, units("cpu", torch.float64)
    )

    assert found.problem == "torch.float32 where torch.float64 is right"


def test_products_in_parts_are_products() -> None:
    """Rows are multiplied some at a time."""
    a, b = np.arange(600.0 * 70).reshape(2, 300, 70), np.arange(70.0 * 130).reshape(70, 130)

    assert (matmul(a, b) == a @ b).all()


def test_an_error_of_an_operand_reaches_the_product() -> None:
    """The bound holds whatever the operands are within theirs."""
    a, b = exact(np.full((2, 3), 2.0)), exact(np.full((3, 2), 5.0))
    wide = product(type(a)(a.value, a.value * 0 + 0.5), b, Units(0, 0, 0))

    assert wide.error.tolist() == [[7.5, 7.5], [7.5, 7.5]]
    assert product(a, b, Units(0, 0, 0)).error.tolist() == [[0, 0], [0, 0]]


def test_units_of_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 by three TF32 products, float16 by way of bfloat16, and what a variable forces."""
    assert units("cpu", torch.float32).stored == 2.0**-24
    assert units("cuda:0", torch.float32).stored == 2.0**-20
    assert units("cuda:0", torch.float64).stored == 2.0**-53
    assert units("cuda:0", torch.float16).stored == 2.0**-11
    monkeypatch.setattr("probes.attention.bounds.back_end", lambda _device: "hip")
    assert units("cuda:0", torch.float16).stored == 2.0**-8
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    assert units("cpu", torch.float32).stored == 2.0**-8


def test_operands_are_the_same_in_every_type() -> None:
    """Else the reference would be of other numbers."""
    for problem in TYPICAL:
        each = problems.operands(problem)
        for array in (each.query, each.key, each.value, each.upstream):
            assert (torch.from_numpy(array).to(torch.bfloat16).double().numpy() == array).all()
            assert (torch.from_numpy(array).to(torch.float16).double().numpy() == array).all()
    for parameter in layer.layer(layer.Setting("x")).parameters.values():
        assert (torch.from_numpy(parameter).to(torch.bfloat16).double().numpy() == parameter).all()


def test_no_row_is_masked_whole() -> None:
    """What it gives is not documented."""
    for problem in (*shapes._MASKS, *shapes._CAUSAL, *kernels._PROBLEMS):
        assert np.isfinite(problem.bias()).any(-1).all(), problem


def test_it_runs_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the setting, which is recorded as it was and restored."""
    settings: list[str] = []

    def body(_device: str) -> Iterator[Comparison]:
        settings.append(torch.get_float32_matmul_precision())
        yield Comparison(operation="x", elements=1)

    monkeypatch.setattr(probe, "FAMILIES", {"plain": lambda _device: [Custom("x", body)]})
    torch.set_float32_matmul_precision("medium")
    try:
        observed = probe.observe("cpu")
        after = torch.get_float32_matmul_precision()
    finally:
        torch.set_float32_matmul_precision("highest")

    assert settings == ["highest"]
    assert (observed.precision.matmul, after) == ("medium", "medium")


def test_it_runs_where_the_formula_is_forbidden() -> None:
    """Torch then refuses the gradient of a mask, as documented; the setting is restored."""
    torch.backends.cuda.enable_math_sdp(False)
    try:
        found = tripped_families(probe, "gradients", "masks")
        after = torch.backends.cuda.math_sdp_enabled()
    finally:
        torch.backends.cuda.enable_math_sdp(True)

    assert (found, after) == (set(), False)


def test_the_random_state_stays() -> None:
    """A module's first values are drawn, and replaced."""
    before = torch.get_rng_state()
    tripped_families(probe, "module")

    assert torch.equal(torch.get_rng_state(), before)


# ---- what is left out


def with_kernel(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[], contextlib.AbstractContextManager[Any]]
) -> set[str]:
    """The checks that trip where one kernel is known, with this way to ask for it."""
    math_kernel = kernels.by_name()["math"]
    monkeypatch.setattr(kernels, "by_name", lambda: {"math": math_kernel, "new": ask})
    return tripped_in(torch.float32, "kernels")


@contextlib.contextmanager
def refusing(text: str) -> Iterator[None]:
    """Attention raises that error."""
    with pytest.MonkeyPatch.context() as patch:

        def attend(*_: Any, **__: Any) -> torch.Tensor:
            raise RuntimeError(text)

        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
        yield


@pytest.mark.parametrize(
    ("text", "trips"),
    [
        ("No available kernel. Aborting execution.", set()),
        ("No viable backend for scaled_dot_product_attention was found.", set()),
        (
            "cuDNN Frontend error: [cudnn_frontend] Error: No execution plans support the graph.",
            set(),
        ),
        ("CUDA error: an illegal memory access was encountered", {"kernels"}),
    ],
)
def test_a_kernel_that_refuses_is_left_out(
    text: str, trips: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fails is not."""
    assert with_kernel(monkeypatch, partial(refusing, text)) == trips


def test_where_no_kernel_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before torch 2.3 the check is skipped by name."""
    monkeypatch.setattr(kernels, "by_name", dict)
    monkeypatch.setattr(probe, "FAMILIES", {"kernels": kernels.kernels})
    (found,) = probe.judge(probe.observe("cpu"))

    assert (found.status, found.message) == ("skip", probe._NO_NAMES)


@pytest.mark.parametrize(
    ("device", "version", "why"),
    [
        ("cpu", "2.13.0+cpu", ""),
        ("cuda:0", "2.5.0", ""),
        ("cuda:0", "2.4.1+cu121", "torch 2.5"),
        ("mps", "2.13.0", "not for the mps"),
        ("xpu", "2.13.0", "not for the xpu"),
    ],
)
def test_where_grouped_heads_are_left_out(
    device: str, version: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """enable_gqa came with torch 2.5, and is documented for CUDA alone."""
    monkeypatch.setattr(torch, "__version__", version)

    assert why in probe._no_groups(device)
    assert bool(probe._no_groups(device)) == bool(why)


def test_without_grouped_heads_the_rest_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their check is skipped with its reason, and so are their gradients."""
    monkeypatch.setattr(probe, "_no_groups", lambda _device: "not here")
    chosen = {name: probe.FAMILIES[name] for name in ("scale", "grouped_heads")}
    monkeypatch.setattr(probe, "FAMILIES", chosen)
    found = {each.id: each for each in probe.judge(probe.observe("cpu"))}

    assert found["attention.grouped_heads"].message == "not here"
    assert found["attention.scale"].status == "pass"
    assert "grouped" not in str([str(each) for each in probe._gradients("cpu")])


def test_a_torch_that_does_not_say_what_it_picks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is private to torch."""

    def other(*_: Any, **__: Any) -> int:
        raise TypeError("other arguments")

    monkeypatch.setattr(torch, "_fused_sdp_choice", other)
    assert kernels.picked("cpu") == {}

    monkeypatch.delattr(torch, "_fused_sdp_choice")
    assert kernels.picked("cpu") == {}


def test_an_old_recording_can_be_judged() -> None:
    """Without the fields that came with the first version of the probe's own observation."""
    plain = families.Observation(device="cpu", families=sound().families)
    observation = probe.Observation.model_validate(plain.model_dump())

    assert {each.status for each in probe.judge(observation)} == {"pass"}

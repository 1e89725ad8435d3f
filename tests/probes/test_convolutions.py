"""The probe `convolutions`: this image passes, faults trip their checks, bounds hold."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from probes.catalog import CONVOLUTIONS
from probes.contract import Comparison
from probes.convolutions import algorithms, probe, problems, running, tables
from probes.convolutions.problems import Problem
from probes.faults.inject.convolutions import MEANINGS
from probes.kit import precision
from probes.kit.convolutions import (
    ROUNDED,
    Convolution,
    allowed_error,
    half_error,
    may_be_tiled,
    moving,
)
from probes.kit.precision import full_precision_convolutions
from probes.kit.trial import Custom, run_trials
from tests.probes.corrupt import (
    Corrupt,
    Fault,
    assert_trips,
    corrupted_operators,
    five_per_cent,
    nan,
    shifted,
    slightly_larger,
    slightly_smaller,
    swapped,
    tripped_families,
    zeros,
)
from tests.probes.verdicts import PLANTED, ids, tripped, tripped_alone

TABLES = ("FORWARD", "GROUPED", "TRANSPOSED", "LARGE", "BATCHES", "GRADIENTS")
PROBLEMS = [problem for name in TABLES for problem in getattr(tables, name)]
#: Integers up to these are exact in a half type.
EXACT = {torch.bfloat16: 2**8, torch.float16: 2**11}
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


@pytest.mark.slow
def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, every check is made, and nothing is left out."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(CONVOLUTIONS.check_ids)
    assert {each.status for each in findings} == {"pass"}
    assert sound().lacking == {}


@pytest.mark.slow
@pytest.mark.parametrize("check", CONVOLUTIONS.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the hint says what to do."""
    families = {**sound().families, check: PLANTED}
    failed = tripped_alone(
        probe.judge(sound().model_copy(update={"families": families})), f"convolutions.{check}"
    )
    assert failed.hint.startswith("wrong in one algorithm or layout only")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forced", "limits", "status"),
    [
        ("NVIDIA_TF32_OVERRIDE=1", "as_set", "skip"),
        ("NVIDIA_TF32_OVERRIDE=1", "exact", "fail"),
        ("", "as_set", "fail"),
    ],
)
def test_a_variable_that_forces_tf32(forced: str, limits: Any, status: str) -> None:
    """It acts below torch's switch: only there shortened numbers are no fault."""
    wrong = (Comparison(operation="float32", elements=9, mismatches=1),)
    setting = sound().precision.model_copy(update={"forced_by": forced})
    families = {**sound().families, "precision": wrong}
    seen = sound().model_copy(update={"families": families, "precision": setting})
    found = {each.id: each for each in probe.judge(seen, probe.Limits(float32_products=limits))}

    assert found["convolutions.precision"].status == status
    assert found["convolutions.forward"].status == "pass"


# ---- problems


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_sums_are_exact_in_half_types(problem: Problem) -> None:
    """In any order: outputs everywhere, and gradients where they are compared in half types."""
    for dtype, limit in EXACT.items():
        sums = problems.largest_sums(problem, problems.largest(dtype))
        compared = sums if problem in tables.GRADIENTS else sums[:1]

        assert max(compared) <= limit


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p.x[0] < 300], ids=str)
def test_the_largest_sums_are_large_enough(problem: Problem) -> None:
    """No output or gradient is larger; all have another shape than a wrong problem would."""
    output_sum, of_x_sum, of_w_sum = problems.largest_sums(problem, 2)
    output = problems.output(problem, 2)
    of_x, of_w, of_b = problems.gradients(problem, 2)

    assert output.shape == problem.output_shape()
    assert (of_x.shape, of_w.shape, of_b.shape) == (problem.x, problem.w, (problem.outputs,))
    for array, most in ((output, output_sum), (of_x, of_x_sum), (of_w, of_w_sum)):
        assert np.abs(array).max(initial=0) <= most


@pytest.mark.parametrize("problem", [tables.FORWARD[10], tables.GROUPED[5], tables.TRANSPOSED[9]])
def test_references_are_adjoint(problem: Problem) -> None:
    """The output is linear in input and in weight: each gradient gives the same number."""
    each = problems.operands(problem, 2)
    output = problems.output(problem, 2)
    bias = each.b.reshape(-1, *(1,) * problem.axes) if problem.bias else 0
    of_x, of_w, of_b = problems.gradients(problem, 2)
    number = ((output - bias) * each.upstream).sum()

    assert (of_x * each.x).sum() == number
    assert (of_w * each.w).sum() == number
    assert np.array_equal(of_b, each.upstream.sum((0, 2, 3)))


def test_sparse_weights_are_not_all_zero() -> None:
    """In each of the large problems most output channels have a weight."""
    for problem in tables.LARGE:
        weight = problems.operands(problem, 1).w

        assert np.abs(weight).sum() > 0.5 * problem.outputs, str(problem)
        assert problems.output(problem, 1).std() > 0, str(problem)


@pytest.mark.parametrize(
    ("device", "dtype", "exact", "allowed"),
    [
        ("cpu", torch.float32, True, None),
        ("cuda:0", torch.float16, True, None),
        ("cuda:0", torch.float32, False, ROUNDED),
        ("cuda:0", torch.bfloat16, False, 0.5),  # two steps of 1/4, between 32 and 64
        ("xpu:0", torch.float32, True, ROUNDED),
    ],
)
def test_the_allowed_error(
    device: str, dtype: torch.dtype, *, exact: bool, allowed: float | None
) -> None:
    """None where only the plain sum can be used; else what still identifies an integer."""
    assert allowed_error(device, dtype, 40.0, exact=exact) == allowed


@pytest.mark.parametrize(
    ("steps", "kernel", "right"),
    [
        (moving(2, 2, 1), (3, 3), True),
        (moving(2, 2, 1), (7, 2), True),
        (moving(2, 3), (3, 3), False),
        (moving(2, 2), (1, 7), False),
        (moving(2, 2, dilation=2), (3, 3), False),
        (moving(1, 2), (3,), False),
        (moving(3, 2), (3, 3, 3), False),
    ],
)
def test_what_cudnn_may_compute_by_tiles(
    steps: Convolution, kernel: tuple[int, ...], *, right: bool
) -> None:
    """Images by filters of two sides, with stride 1 or 2 and no dilation."""
    assert may_be_tiled(steps, kernel) == right


@pytest.mark.parametrize(
    ("device", "dtype", "allowed"),
    [
        ("cpu", torch.float32, None),
        ("cuda:0", torch.float32, ROUNDED),
        ("cuda:0", torch.float16, ROUNDED),
        ("cuda:0", torch.bfloat16, None),
        ("cuda:0", torch.float64, None),
    ],
)
def test_tiles_round(device: str, dtype: torch.dtype, allowed: float | None) -> None:
    """With stride 2 too, on CUDA, in the types that cuDNN's FFT takes."""
    assert allowed_error(device, dtype, 40.0, exact=True, tiled=True) == allowed
    stride_2 = problems.allowed(tables.FORWARD[4], dtype, 1, device)[0]
    assert (stride_2 == 0) == (allowed is None)


def test_the_allowed_error_on_hip(monkeypatch: pytest.MonkeyPatch) -> None:
    """MIOpen may take Winograd with stride 2 as well."""
    monkeypatch.setattr(torch.version, "hip", "6.4.43482")

    assert allowed_error("cuda:0", torch.float32, 40.0, exact=True) == ROUNDED
    assert half_error(torch.float16, 40.0, ROUNDED) == ROUNDED
    assert half_error(torch.float16, 2048.0, ROUNDED) == 4.0


def test_tf32_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An algorithm that transforms its operands rounds them: only with stride 1, in float32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    plain = problems.allowed(tables.FORWARD[3], torch.float32, 5, "cuda:0")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    shortened = problems.allowed(tables.FORWARD[3], torch.float32, 5, "cuda:0")

    assert plain[0] == ROUNDED
    assert ROUNDED < shortened[0] < 2
    assert problems.allowed(tables.FORWARD[1], torch.float32, 2, "cuda:0") == (0, 0, 0, 0)


def test_float16_filters_that_hang_the_cpu_are_left_out_there_alone() -> None:
    """From torch 2.9 to 2.13 the CPU's library does not return from some."""
    large = [problem for problem in tables.LARGE if not problem.in_half_on_cpu]

    assert {problem.w[-1] for problem in large} == {31}
    for problem in large:
        assert torch.float16 not in problem.dtypes("cpu")
        assert torch.float16 in problem.dtypes("cuda:0")
    assert set(tables.FORWARD[0].dtypes("cpu")) == set(DTYPES)


# ---- torch broken from outside


def in_type(dtype: torch.dtype) -> Fault:
    """5 % off in one type."""

    def spoil(out: torch.Tensor) -> None:
        if out.dtype == dtype:
            out.mul_(1.05)

    return spoil


@pytest.mark.parametrize(
    "family", ["forward", "grouped", "transposed", "padding", "channels_last", "algorithms"]
)
@pytest.mark.parametrize("fault", [five_per_cent, swapped, zeros, nan], ids=lambda f: f.__name__)
def test_an_output_that_is_wrong(family: str, fault: Fault) -> None:
    """It is caught by the check of its family."""
    with Corrupt("convolution", fault) as corrupt:
        found = tripped_families(probe, family)

    assert corrupt.count > 0
    assert found == {family}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("operator", "family"), [("convolution", "forward"), ("convolution_backward", "gradients")]
)
def test_one_type_that_is_wrong(operator: str, family: str, dtype: torch.dtype) -> None:
    """Outputs and gradients 5 % off in one type alone, half types too."""
    with Corrupt(operator, in_type(dtype)):
        assert tripped_families(probe, family) == {family}


@pytest.mark.parametrize("output", range(3), ids=["input", "weight", "bias"])
def test_one_gradient_that_is_wrong(output: int) -> None:
    """Of input, weight or bias alone."""
    turn = iter(range(10**9))

    def spoil(out: torch.Tensor) -> None:
        if next(turn) % 3 == output:
            out.mul_(0.95)

    with Corrupt("convolution_backward", spoil):
        assert tripped_families(probe, "gradients") == {"gradients"}


#: (operator, fault, family that must trip)
OPERATORS: list[tuple[str, Fault, str]] = [
    ("convolution", slightly_larger, "precision"),
    ("convolution", shifted, "large"),
    ("convolution", slightly_smaller, "large"),
    ("convolution_backward", swapped, "channels_last"),
    ("convolution_backward", zeros, "frozen"),
    ("convolution_backward", nan, "algorithms"),
    ("convolution_backward", slightly_smaller, "precision"),
    ("convolution_backward", shifted, "padding"),
]


@corrupted_operators(OPERATORS)
def test_corrupted_operator(operator: str, fault: Fault, families: str) -> None:
    """A wrong kernel trips the checks of its families, without an error."""
    assert_trips(probe, operator, fault, families)


#: What each meaning breaks.
BROKEN = {
    "groups_mixed_up": "grouped",
    "output_padding_ignored": "transposed",
    "channels_beyond_1024_lost": "large",
    "channels_last_misread": "channels_last",
    "benchmark_picks_wrong": "algorithms",
    "bias_lost_in_half": "gradients",
    "circular_as_reflect": "padding",
}


@pytest.mark.parametrize("name", MEANINGS)
def test_a_convolution_that_means_something_else(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is caught by the check that names it."""
    functions, make = MEANINGS[name]
    for function in functions:
        original = getattr(torch.nn.functional, function)
        monkeypatch.setattr(torch.nn.functional, function, make(original))

    assert tripped_families(probe, BROKEN[name]) == {BROKEN[name]}


def _without_dilation(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, w, b, stride, padding, _dilation, groups: original(
        x, w, b, stride, padding, 1, groups
    )


def _without_batch(original: Callable[..., Any]) -> Callable[..., Any]:
    """An image without a batch is mirrored."""
    return lambda x, *rest: original(x.flip(-1) if x.dim() == 4 - 1 else x, *rest)


@pytest.mark.parametrize(
    ("function", "change", "family"),
    [
        ("conv1d", _without_dilation, "forward"),
        ("conv2d", _without_dilation, "grouped"),
        ("conv2d", _without_batch, "padding"),
    ],
)
def test_a_replaced_call(
    function: str,
    change: Callable[[Callable[..., Any]], Callable[..., Any]],
    family: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An argument that is ignored is seen, by its values or by its shape."""
    original = getattr(torch.nn.functional, function)
    monkeypatch.setattr(torch.nn.functional, function, change(original))

    assert tripped_families(probe, family) == {family}


def test_a_deterministic_algorithm_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last bit differs from call to call: only the repeated bits show it."""
    calls = iter(range(10**9))
    conv2d = torch.nn.functional.conv2d

    def noisy(*given: Any) -> Any:
        found = conv2d(*given)
        return found * (1 + (next(calls) % 2) * 2.0**-22)

    monkeypatch.setattr(torch.nn.functional, "conv2d", noisy)
    trials = [each for each in algorithms.algorithms("cpu") if each.operation == "repeated"]
    found, _ = run_trials(trials, "cpu")

    assert [each.holds for each in found] == [False]


def test_another_type_of_result_is_wrong() -> None:
    """Whatever its values."""
    right = np.ones(3)
    wide = running.compared("x", torch.ones(3, dtype=torch.float64), right, 0.0, torch.float32)

    assert not all(each.holds for each in wide)
    assert all(each.holds for each in running.compared("x", torch.ones(3), right, 0, torch.float32))


# ---- the state of torch


@pytest.mark.parametrize("before", [(False, False), (True, False), (False, True)])
def test_the_switches_of_cudnn_are_set_and_restored(
    before: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each choice is in force while its trials run, whatever was set."""
    cudnn: Any = torch.backends.cudnn
    seen: set[tuple[bool, bool]] = set()

    def body(_device: str) -> Iterator[Comparison]:
        seen.add((cudnn.benchmark, cudnn.deterministic))
        yield Comparison(operation="x (y)")

    monkeypatch.setattr(running, "outputs", lambda *_, **__: [Custom("x", body)])
    monkeypatch.setattr(running, "gradients", lambda *_, **__: [])
    old = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = before
    try:
        run_trials(algorithms.algorithms("cpu"), "cpu")
        after = cudnn.benchmark, cudnn.deterministic
    finally:
        cudnn.benchmark, cudnn.deterministic = old

    assert seen == {(True, False), (False, False), (False, True)}
    assert after == before


def _switches() -> list[object]:
    """The switches of float32 that this torch has, as they are."""
    backends: Any = torch.backends
    owners = [backends, backends.cudnn, getattr(backends.cudnn, "conv", None)]
    found: list[object] = [getattr(owner, "fp32_precision", None) for owner in owners]
    return [*found, backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()]


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_switched_off_and_restored(*, allowed: bool) -> None:
    """For convolutions, whose TF32 is on by default."""
    cudnn: Any = torch.backends.cudnn
    old = cudnn.allow_tf32
    cudnn.allow_tf32 = allowed
    try:
        before = _switches()
        with full_precision_convolutions():
            conv = getattr(cudnn, "conv", None)
            inside = conv.fp32_precision == "ieee" if conv else not cudnn.allow_tf32
        after = _switches()
    finally:
        cudnn.allow_tf32 = old

    assert inside
    assert before == after


@pytest.mark.parametrize("allowed", [True, False])
def test_the_old_switch_where_there_is_no_new_one(
    *, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before torch 2.9: it is switched off, and back on only where it was on."""
    monkeypatch.setattr(precision, "_conv_switches", list)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    with full_precision_convolutions():
        inside = torch.backends.cudnn.allow_tf32

    assert not inside
    assert torch.backends.cudnn.allow_tf32 is allowed


def test_moving_is_alike_along_all_axes() -> None:
    """A convolution with one number for each axis."""
    steps = moving(3, 2, 1, 3, groups=4)

    assert (steps.stride, steps.padding, steps.dilation) == ((2,) * 3, (1,) * 3, (3,) * 3)
    assert steps.groups == 4

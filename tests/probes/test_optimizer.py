"""The probe `optimizer`: this image passes, its references are right, faults trip their checks."""

import copy
import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch.optim import swa_utils

from probes.catalog import OPTIMIZER
from probes.contract import Comparison
from probes.faults.inject.optimizers import OPTIMIZERS
from probes.kit.capabilities import has_kernel
from probes.kit.rounding import exact, square_root
from probes.optimizer import (
    algorithms,
    descent,
    matrix_algorithms,
    probe,
    step_sizes,
    stepping,
)
from probes.optimizer.parameters import (
    MANY,
    WITH_GAPS,
    flat,
    gradients,
    implementations,
    start,
)
from probes.optimizer.schedules import SCHEDULES
from tests.probes.corrupt import (
    Fault,
    assert_trips,
    corrupted_operators,
    last,
    nan,
    shifted,
    slightly_larger,
    slightly_smaller,
    tripped_families,
    zeros,
)
from tests.probes.verdicts import ids, tripped

pytestmark = pytest.mark.slow

UNIT: Final = 2.0**-24


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


def with_family(name: str, *comparisons: Comparison, **fields: Any) -> probe.Observation:
    """A sound observation with other comparisons for one check."""
    found = {**sound().families, name: comparisons}
    return sound().model_copy(update={"families": found, **fields})


def wrong(operation: str) -> Comparison:
    """A comparison with one wrong element."""
    return Comparison(operation=operation, elements=9, mismatches=1)


def last_element(out: torch.Tensor) -> None:
    """Move the last element by one hundredth of itself, and of 1."""
    if out.is_floating_point():
        last(out).mul_(1.01).add_(0.01)


def negated(out: torch.Tensor) -> None:
    """Change the sign."""
    out.neg_()


# ---- verdicts


def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, and every check is made."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(OPTIMIZER.check_ids)
    assert {each.status for each in findings} == {"pass"}


@pytest.mark.parametrize("check", OPTIMIZER.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the operation is named."""
    findings = list(probe.judge(with_family(check, wrong("Adam planted"))))

    assert tripped(findings) == {f"optimizer.{check}"}
    (failed,) = [each for each in findings if each.status == "fail"]
    assert "Adam planted" in failed.message
    assert (failed.action, bool(failed.hint)) == ("investigate", True)


@pytest.mark.parametrize("check", OPTIMIZER.checks)
@pytest.mark.parametrize(("back_end", "status"), [("mps", "warn"), ("cuda", "fail")])
def test_metal_rounds_otherwise(check: str, back_end: str, status: str) -> None:
    """A difference is a warning there, and a failure on other devices."""
    observation = with_family(check, wrong("Adam planted"), back_end=back_end)

    found = {each.id: each.status for each in probe.judge(observation)}

    assert found[f"optimizer.{check}"] == status


def test_what_a_back_end_lacks_is_skipped() -> None:
    """A family of which nothing is implemented is skipped, not failed."""
    families = {name: each for name, each in sound().families.items() if name != "adam"}
    observation = sound().model_copy(
        update={"families": families, "not_implemented": ("adam",), "back_end": "xpu"}
    )

    found = {each.id: each.status for each in probe.judge(observation)}

    assert found["optimizer.adam"] == "skip"
    assert tripped(probe.judge(observation)) == set()


def test_nothing_compared_is_no_pass() -> None:
    """A family that compared nothing, and is not absent, fails."""
    assert tripped(probe.judge(with_family("adam"))) == {"optimizer.adam"}


@pytest.mark.parametrize(
    "switch",
    [
        lambda: torch.set_grad_enabled(False),
        lambda: torch.set_default_dtype(torch.double),
        lambda: warnings.simplefilter("error"),
    ],
)
def test_no_alarm_whatever_is_switched(switch: Callable[[], object]) -> None:
    """Gradients off, another default type or warnings as errors are no fault of an optimizer."""
    dtype = torch.get_default_dtype()
    try:
        with warnings.catch_warnings():
            switch()
            found = tripped(probe.judge(probe.observe("cpu")))
    finally:
        torch.set_grad_enabled(True)
        torch.set_default_dtype(dtype)

    assert found == set()


# ---- what is tried


def test_every_implementation_is_tried() -> None:
    """Those of this torch, each in the check of its optimizer."""
    fused = [name for name, _ in implementations("Adam", "_fused_adam_", "cpu")]

    assert fused == ["by default", "for-loop", "foreach", "fused"]
    for check, optimizer in (("sgd", "SGD"), ("adam", "Adam"), ("adamw", "AdamW")):
        tried = {each.operation for each in sound().families[check]}
        assert tried - {"SGD closure"} == {f"{optimizer} {name}" for name in fused}


def test_an_implementation_that_torch_lacks_is_left_out() -> None:
    """A kernel of another device, and an operator that this torch does not know."""
    assert not has_kernel("_fused_adam_", "cuda") or torch.version.cuda or torch.version.hip
    assert not has_kernel("_fused_unknown_", "cpu")
    left = [name for name, _ in implementations("RMSprop", "", "cpu")]
    assert left == ["by default", "for-loop", "foreach"]


@pytest.mark.parametrize("at", ["__init__", "step"])
def test_a_fused_form_that_the_optimizer_refuses_is_left_out(
    at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words of torch 2.11, which has a kernel of Adagrad for CUDA and offers none."""
    text = (
        "`fused=True` requires all the params to be floating point Tensors of supported devices: "
        "['mps', 'xpu', 'hpu', 'cpu', 'mtia', 'privateuseone'] but torch.float32 and cuda"
    )

    class Refuses:
        def __init__(self, *_args: Any, fused: bool = False, **_options: Any) -> None:
            self._fused = fused
            self._refuse("__init__")

        def step(self) -> None:
            self._refuse("step")

        def _refuse(self, method: str) -> None:
            if method == at:
                raise RuntimeError(text if self._fused else "something else")

    given = ("Adagrad", "_fused_adagrad_", "cpu")
    assert "fused" in dict(implementations(*given))
    monkeypatch.setattr(torch.optim, "Adagrad", Refuses)
    assert "fused" not in dict(implementations(*given))
    monkeypatch.setattr(torch.optim, "Adagrad", lambda _params: None)
    assert "fused" in dict(implementations(*given))
    monkeypatch.setattr(torch.optim, "Adagrad", Refuses)
    text = "CUDA error: an illegal memory access was encountered"
    with pytest.raises(RuntimeError, match="illegal memory"):
        list(implementations(*given))


@pytest.mark.parametrize("family", [descent.sgd, descent.momentum])
def test_exact_steps_are_exact(
    family: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where bits are compared, each type can represent the parameters after each step."""
    recipes: list[stepping.Recipe] = []

    def collect(found: list[stepping.Recipe], _device: str) -> tuple[()]:
        recipes.extend(found)
        return ()

    monkeypatch.setattr(descent, "trials", collect)
    list(family("cuda"))

    exact_ones = [each for each in recipes if each.exact]

    assert len(exact_ones) >= 7
    for recipe in exact_ones:
        for dtype in recipe.dtypes:
            for value, allowed in stepping.expected(recipe, dtype):
                assert allowed is None
                rounded = torch.from_numpy(value).to(dtype).double().numpy()
                assert (rounded == value).all()


def test_many_tensors_are_more_than_one_launch() -> None:
    """And one of them is larger than a chunk; none is the same as its neighbour."""
    assert len(MANY.places) > 110
    assert max(np.prod(shape) for shape, _ in MANY.places) > 65536


def test_a_layout_holds_what_it_was_given() -> None:
    """Empty, transposed and strided parameters included; none shares memory with the array."""
    values = start(WITH_GAPS.size)
    tensors = WITH_GAPS.parameters(values, "cpu")

    assert [list(each.shape) for each in tensors] == [[], [1], [5, 7], [0], [3, 11], [9]]
    assert [each.is_contiguous() for each in tensors][-2:] == [False, False]
    assert all(each.is_leaf and each.requires_grad for each in tensors)
    assert (flat(tensors) == values).all()


# ---- references


def test_a_constant_gradient_moves_adam_by_the_rate() -> None:
    """Each step of the reference is lr g / (|g| + eps), whatever the averages."""
    g = np.array([3.0, -0.25, 1e-3])
    steps = algorithms.adam(exact(np.zeros(3), UNIT), [g] * 4, lr=0.5, eps=0.125)

    for count, step in enumerate(steps, 1):
        right = -count * 0.5 * g / (np.abs(g) + 0.125)
        np.testing.assert_allclose(step.value, right, rtol=1e-12)


def test_amsgrad_keeps_the_largest() -> None:
    """After a large gradient the steps stay shorter than without it."""
    given = [np.array([4.0]), np.array([0.5]), np.array([0.5])]
    theta = exact(np.zeros(1), UNIT)
    options: dict[str, Any] = {"lr": 0.5, "betas": (0.5, 0.5)}

    kept, plain = (
        algorithms.adam(theta, given, amsgrad=amsgrad, **options) for amsgrad in (True, False)
    )

    assert abs(kept[2].value - kept[1].value) < abs(plain[2].value - plain[1].value)


def test_decoupled_decay_ignores_the_gradient() -> None:
    """With a gradient of zeros AdamW multiplies by 1 - lr lambda; Adam moves by the rate."""
    zeros, theta = [np.zeros(1)], exact(np.full(1, 2.0), UNIT)
    options: dict[str, Any] = {"lr": 0.5, "weight_decay": 0.25}

    assert algorithms.adamw(theta, zeros, **options)[0].value == 2.0 * (1 - 0.125)
    np.testing.assert_allclose(algorithms.adam(theta, zeros, **options)[0].value, 1.5, rtol=1e-6)


def test_momentum_starts_without_dampening() -> None:
    """As the documentation notes; from the second step on it counts."""
    steps = algorithms.sgd(
        np.zeros(1), [np.ones(1), np.ones(1)], lr=1.0, momentum=0.5, dampening=0.5
    )

    assert [float(each[0]) for each in steps] == [-1.0, -2.0]


def test_bounds_hold_the_errors_of_float32() -> None:
    """The bound contains what NumPy computes in float32, and is not a thousand times larger."""
    given = gradients(64, (1.0, 3.0, 0.3, 0.1), 0.3)
    theta = start(64, 0.7)
    (*_, bounded) = algorithms.adam(exact(theta, UNIT), given, lr=0.1, betas=(0.75, 0.875))
    single = np.float32
    x, m, v = theta.astype(single), np.zeros(64, single), np.zeros(64, single)
    for t, gradient in enumerate(given, 1):
        g = gradient.astype(single)
        m, v = m + single(0.25) * (g - m), single(0.875) * v + single(0.125) * g * g
        root = np.sqrt(v) / single(np.sqrt(1 - 0.875**t)) + single(1e-8)
        x = x - single(0.1 / (1 - 0.75**t)) * m / root

    error = np.abs(x.astype(float) - bounded.value)

    assert (error <= bounded.error).all()
    assert bounded.error.max() < 1e-4


def test_a_root_of_zero_has_a_finite_error() -> None:
    """The error of a root is at most the root of the error."""
    almost_zero = exact(np.zeros(1), UNIT) + exact(np.full(1, 1e-8), UNIT) * 0.0

    assert np.isfinite(square_root(almost_zero).error).all()
    assert square_root(exact(np.zeros(1), UNIT)).error == 0


def test_radam_is_rectified_from_the_sixth_step_on() -> None:
    """Before that it moves as momentum does: by the rate, where the gradient is 1."""
    options: dict[str, Any] = {"lr": 0.5, "betas": (0.75, 0.875)}
    steps = step_sizes.radam(exact(np.zeros(1), UNIT), [np.ones(1)] * 7, **options)
    moved = -np.diff([0.0, *(float(each.value[0]) for each in steps)])

    # 2 / 0.125 - 1 = 15; after 6 steps 15 - 12 * 0.4488 / 0.5512 = 5.229.
    rectified = np.sqrt((5.2294 - 4) * (5.2294 - 2) * 15 / ((15 - 4) * (15 - 2) * 5.2294))
    np.testing.assert_allclose(moved[:5], 0.5, rtol=1e-12)
    np.testing.assert_allclose(moved[5], 0.5 * rectified, rtol=1e-3)


def test_adadelta_begins_with_the_root_of_eps() -> None:
    """The first step is sqrt(eps) g / sqrt((1 - rho) g^2 + eps)."""
    (step,) = step_sizes.adadelta(exact(np.zeros(1), UNIT), [np.full(1, 2.0)], rho=0.75, eps=1.0)

    np.testing.assert_allclose(step.value, -2.0 / np.sqrt(2.0), rtol=1e-12)


def test_rprop_grows_shrinks_and_waits() -> None:
    """Twice the same sign, then another: no step, and the next is of the smaller length."""
    given = [np.full(1, each) for each in (1.0, 5.0, -1.0, -2.0)]
    options: dict[str, Any] = {"lr": 1.0, "etas": (0.5, 2.0)}
    steps = step_sizes.rprop(exact(np.zeros(1), UNIT), given, **options)

    assert [float(each.value[0]) for each in steps] == [-1.0, -3.0, -3.0, -2.0]


def test_asgd_slows_down() -> None:
    """By lr / (1 + lambda lr t), beside the decay of the parameter."""
    theta, given = exact(np.zeros(1), UNIT), [np.ones(1)] * 2
    first, second = step_sizes.asgd(theta, given, lr=0.5, lambd=0.5, alpha=1.0)

    assert first.value == -0.5
    np.testing.assert_allclose(second.value, -0.5 * (1 - 0.2) - 0.4, rtol=1e-12)


def test_adafactor_by_hand() -> None:
    """In the first step each element of a matrix of rank one moves by its root mean square."""
    gradient = np.outer([1.0, 2.0], [3.0, -1.0, 4.0])
    theta = exact(np.full((2, 3), 2.0), UNIT)
    (step,) = matrix_algorithms.adafactor(theta, [gradient], lr=0.25)

    np.testing.assert_allclose(step.value, 2.0 - 0.25 * 2.0 * np.sign(gradient), rtol=1e-12)


def test_muon_by_hand() -> None:
    """Sixteen equal numbers are 1/4 of their norm; a tall matrix moves farther."""
    square = np.eye(16) * 3.0
    a, b, c = 3.4445, -4.775, 2.0315
    right = 0.5 * (a / 4 + b / 64 + c / 1024)
    options: dict[str, Any] = {"lr": 0.5, "weight_decay": 0.0, "ns_steps": 1}
    for gradient, ratio in ((square, 1.0), (np.concatenate([square, 0 * square]), math.sqrt(2))):
        zeros_like = exact(np.zeros_like(gradient), UNIT)
        (step,) = matrix_algorithms.muon(zeros_like, [gradient], **options)
        moved, allowed = -step.value[:16].diagonal(), step.error[:16].diagonal()
        np.testing.assert_allclose(moved, ratio * right, rtol=1e-12)
        assert (allowed < 0.04 * ratio * right).all()


def test_schedules_by_hand() -> None:
    """Some rates of each closed form, from the documentation's examples."""
    rates = {name: each.rate for name, each in SCHEDULES.items()}

    assert [rates["StepLR"](t) for t in (0, 2, 3, 6)] == [0.5, 0.5, 0.25, 0.125]
    assert [rates["MultiStepLR"](t) for t in (1, 2, 5)] == [0.5, 0.125, 0.03125]
    assert [rates["CosineAnnealingLR"](t) for t in (0, 8)] == [0.5, 0.125]
    assert [rates["LinearLR"](t) for t in (0, 6, 9)] == [0.125, 0.5, 0.5]
    assert [rates["ConstantLR"](t) for t in (0, 3, 4)] == [0.125, 0.125, 0.5]
    assert [rates["PolynomialLR"](t) for t in (0, 3, 6, 9)] == [0.5, 0.125, 0, 0]
    assert [rates["CosineAnnealingWarmRestarts"](t) for t in (0, 2, 4)] == [0.5, 0.3125, 0.5]
    assert [rates["MultiplicativeLR"](t) for t in (0, 2)] == [0.5, 0.125]
    assert [rates["SequentialLR"](t) for t in (0, 2, 3, 4)] == [0.125, 0.375, 0.5, 0.375]
    assert [rates["ChainedScheduler"](t) for t in (0, 3)] == [0.125, 0.5 * 0.75**3]
    assert [rates["CyclicLR"](t) for t in (0, 2, 6, 8)] == [0.125, 1.0, 0.125, 0.5625]
    assert [rates["SWALR"](t) for t in (0, 2, 4, 9)] == [0.5, 0.3125, 0.125, 0.125]
    assert [rates["OneCycleLR"](t) for t in (0, 2, 9)] == pytest.approx([0.04, 1.0, 4e-6])


# ---- torch broken from outside, below observe()


#: (operator, fault, families that must trip)
OPERATORS: list[tuple[str, Fault, str]] = [
    ("_fused_sgd_", slightly_larger, "sgd momentum groups"),
    ("_fused_sgd_", last_element, "sgd momentum"),
    ("_fused_adam_", slightly_larger, "adam groups missing_gradients state"),
    ("_fused_adam_", last_element, "adam"),
    ("_fused_adamw_", slightly_smaller, "adamw state"),
    ("_fused_adamw_", last_element, "adamw"),
    ("_fused_adagrad_", shifted, "adagrad"),
    ("_foreach_add_", slightly_larger, "sgd momentum foreach_kernels"),
    ("_foreach_add_", last_element, "adam foreach_kernels"),
    ("_foreach_addcdiv_", slightly_larger, "adam adamw rmsprop adagrad nadam"),
    ("_foreach_addcmul_", slightly_smaller, "adam rmsprop nadam foreach_kernels"),
    ("_foreach_lerp_", slightly_larger, "adam adamw adamax nadam foreach_kernels"),
    ("_foreach_sqrt", slightly_larger, "adam adamw rmsprop adagrad foreach_kernels"),
    ("_foreach_norm", slightly_larger, "clipping foreach_kernels"),
    ("_foreach_mul_", slightly_smaller, "clipping momentum foreach_kernels"),
    ("_foreach_clamp_min_", last_element, "clipping foreach_kernels"),
    ("_foreach_maximum_", last_element, "adam foreach_kernels"),
    ("_foreach_neg", slightly_larger, "sgd adam foreach_kernels"),
    ("_foreach_copy_", shifted, "foreach_kernels"),
    ("_foreach_zero_", slightly_larger, ""),  # zeros stay zeros
    ("addcdiv_", slightly_larger, "adam adamw rmsprop adagrad adamax nadam"),
    ("addcdiv_", nan, "adam"),
    ("addcmul_", slightly_larger, "adam adamw rmsprop adagrad nadam"),
    ("lerp_", slightly_smaller, "adam adamw adamax nadam"),
    ("sqrt", slightly_larger, "adam adamw adagrad"),
    ("sqrt_", slightly_larger, "rmsprop"),
    ("add_", last_element, "sgd momentum"),
    ("linalg_vector_norm", slightly_larger, "clipping adafactor"),
    ("addcmul_", slightly_larger, "adadelta radam"),
    ("_foreach_addcmul_", slightly_larger, "adadelta radam"),
    ("sign", zeros, "rprop"),
    ("_foreach_sign_", shifted, "rprop"),
    ("rsqrt_", slightly_larger, "adafactor"),
    ("addmm", negated, "muon"),
    ("sparse_mask", slightly_larger, "sparse"),
    ("_foreach_lerp_", slightly_larger, "radam averaging"),
]


@corrupted_operators(OPERATORS)
def test_corrupted_operator(operator: str, fault: Fault, families: str) -> None:
    """A wrong kernel trips the checks of its families, without an error."""
    assert_trips(probe, operator, fault, families, tried="" if families else "foreach_kernels")


#: Families that are tried under every other meaning, to save time.
FAST: Final = frozenset(
    {"groups", "missing_gradients", "state", "schedulers", "muon", "lbfgs", "sparse", "averaging"}
)

#: Name in `OPTIMIZERS` -> the families that must trip.
MEANINGS: Final = {
    "sgd_without_decay": {"sgd", "momentum", "missing_gradients"},
    "sgd_without_dampening": {"momentum"},
    "adam_without_amsgrad": {"adam", "adamw", "state"},
    "adamw_is_adam": {"adamw", "state"},
    "rmsprop_never_centered": {"rmsprop"},
    "adagrad_without_lr_decay": {"adagrad", "state", "sparse"},
    "adamax_other_eps": {"adamax"},
    "nadam_other_decay": {"nadam"},
    "radam_decay_in_the_gradient": {"radam"},
    "adadelta_other_rho": {"adadelta"},
    "asgd_without_decay": {"asgd"},
    "rprop_other_etas": {"rprop"},
    "adafactor_other_clipping": {"adafactor"},
    "muon_without_momentum": {"muon"},
    "lbfgs_without_history": {"lbfgs"},
    "sparse_rows_all_step": {"sparse"},
    "average_is_the_last": {"averaging"},
    "groups_alike": {"groups", "schedulers"},
    "missing_as_zeros": {"missing_gradients"},
    "zero_grad_does_nothing": {"missing_gradients", "lbfgs", "sparse"},
    "state_without_steps": {"state"},
    "state_not_loaded": {"state"},
    "scheduler_one_step_early": {"schedulers"},
    "clip_to_half": {"clipping"},
    "clip_always": {"clipping"},
    "clip_from_above": {"clipping"},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_another_meaning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that does something else trips the checks that name it, and no other."""
    owner, function, make = OPTIMIZERS[name]
    monkeypatch.setattr(owner, function, make(getattr(owner, function)))

    assert tripped_families(probe, *(FAST | MEANINGS[name])) == MEANINGS[name]


# ---- wrong for some calls alone


#: Owner, function, factory of its replacement.
Part = tuple[Any, str, Callable[[Any], Any]]


def faster(concerned: Callable[[dict[str, Any]], bool]) -> Callable[[Any], Any]:
    """A step whose rate is half as large again for groups that are concerned."""

    def make(original: Any) -> Any:
        def step(self: Any, *given: Any) -> Any:
            groups = [group for group in self.param_groups if concerned(group)]
            rates = [group["lr"] for group in groups]
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate * 1.5
            returned = original(self, *given)
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
            return returned

        return step

    return make


def of_two_types(group: dict[str, Any]) -> bool:
    """Whether its parameters are of two types."""
    return len({each.dtype for each in group["params"]}) > 1


def without_closure(original: Any) -> Any:
    """A step that does not call what it is given."""
    return lambda self, *_: original(self)


def first_group_alone(original: Any) -> Any:
    """A scheduler that leaves all groups but the first as they are."""

    def step(self: Any, *given: Any) -> None:
        others = self.optimizer.param_groups[1:]
        rates = [group["lr"] for group in others]
        original(self, *given)
        for group, rate in zip(others, rates, strict=True):
            group["lr"] = rate

    return step


def options_of_the_first(original: Any) -> Any:
    """A state dict whose groups are taken for the first."""

    def load(self: Any, state_dict: dict[str, Any]) -> None:
        given = copy.deepcopy(state_dict)
        first, *others = given["param_groups"]
        for group in others:
            group.update({name: first[name] for name in first if name != "params"})
        original(self, given)

    return load


def taken_twice(original: Any) -> Any:
    """It goes through the parameters once before it clips."""

    def clip(parameters: Any, *rest: Any, **named: Any) -> Any:
        any(each is None for each in parameters)
        return original(parameters, *rest, **named)

    return clip


def without_nan(original: Any) -> Any:
    """What is not finite is left out of the norm, unless it is asked for."""

    def clip(parameters: Any, limit: float, *rest: Any, **named: Any) -> Any:
        listed = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
        for each in listed:
            if each.grad is not None and not named.get("error_if_nonfinite"):
                each.grad.nan_to_num_(0.0, 0.0, 0.0)
        return original(listed, limit, *rest, **named)

    return clip


def half_types_more(original: Any) -> Any:
    """Norms of half types are 10 % larger."""

    def norms(tensors: Any, *rest: Any, **named: Any) -> Any:
        found = original(tensors, *rest, **named)
        more = tensors[0].dtype in {torch.float16, torch.bfloat16}
        return [each * 1.1 for each in found] if more else found

    return norms


def half_again(original: Any) -> Any:
    """A scheduler whose rates are half as much again."""

    def step(self: Any, *given: Any) -> None:
        original(self, *given)
        for group in self.optimizer.param_groups:
            group["lr"] *= 1.5

    return step


def has_tensor_rate(group: dict[str, Any]) -> bool:
    """Whether its rate is a tensor, of the form for single parameters."""
    return isinstance(group["lr"], torch.Tensor) and not group["fused"]


def by_default(group: dict[str, Any]) -> bool:
    """Whether no implementation was asked for."""
    return group.get("foreach") is None and not group.get("fused")


def hasty(optimizer: str, concerned: Callable[[dict[str, Any]], bool]) -> Part:
    """An optimizer that steps farther for some groups."""
    return getattr(torch.optim, optimizer), "step", faster(concerned)


def scheduler(name: str, make: Callable[[Any], Any]) -> Part:
    """A scheduler with another step."""
    return getattr(torch.optim.lr_scheduler, name), "step", make


def first_of_the_chain(_: Any) -> Any:
    """A chain that steps its first scheduler alone."""
    return lambda self: self._schedulers[0].step()


def with_arguments(**changed: Any) -> Callable[[Any], Any]:
    """A constructor with some arguments replaced."""

    def make(original: Any) -> Any:
        return lambda *given, **named: original(*given, **{**named, **changed})

    return make


def maximizing(group: dict[str, Any]) -> bool:
    """Whether it goes up."""
    return bool(group["maximize"])


def decoupled(group: dict[str, Any]) -> bool:
    """Whether its decay does not go through the averages."""
    return bool(group["decoupled_weight_decay"])


def in_lists(group: dict[str, Any]) -> bool:
    """Whether lists of tensors were asked for."""
    return group["foreach"] is True


def of_complex_numbers(group: dict[str, Any]) -> bool:
    """Whether it has complex parameters."""
    return any(each.is_complex() for each in group["params"])


def with_sparse_gradients(group: dict[str, Any]) -> bool:
    """Whether a gradient is sparse."""
    return any(each.grad is not None and each.grad.is_sparse for each in group["params"])


def last_of_twins(original: Any) -> Any:
    """Of a row that is named twice the last gradient counts."""

    def step(self: Any, *given: Any) -> Any:
        (table,) = self.param_groups[0]["params"]
        rows, values = table.grad._indices()[0], table.grad._values()
        last_place = {int(row): place for place, row in enumerate(rows)}
        kept = torch.tensor(sorted(last_place.values()))
        table.grad = torch.sparse_coo_tensor(rows[kept][None], values[kept], table.shape)
        return original(self, *given)

    return step


def frozen_too(original: Any) -> Any:
    """Parameters that require no gradient are decayed."""

    def step(self: Any, *given: Any) -> Any:
        for each in self.param_groups[0]["params"]:
            if not each.requires_grad:
                each.mul_(0.75)
        return original(self, *given)

    return step


def a_tenth_more(original: Any) -> Any:
    """A result that is 10 % larger."""
    return lambda *given, **named: original(*given, **named) * 1.1


def other_decay(original: Any) -> Any:
    """Another decay than was asked for."""
    return lambda decay: original(decay * 0.9)


def nothing(_: Any) -> Any:
    """A call that does nothing."""
    return lambda *_given, **_named: None


LR: Final = torch.optim.lr_scheduler

OPTIMIZER_CLASS: Final = torch.optim.Optimizer

#: What is wrong, and the family that must trip.
PARTS: Final[list[tuple[Part, str]]] = [
    (hasty("SGD", by_default), "sgd"),
    (hasty("SGD", by_default), "momentum"),
    (hasty("Adam", lambda group: by_default(group) and group["amsgrad"]), "state"),
    (hasty("SGD", lambda group: group["nesterov"] and group["maximize"]), "momentum"),
    (hasty("SGD", lambda group: group["dampening"] and group["weight_decay"]), "momentum"),
    (hasty("SGD", of_two_types), "momentum"),
    (hasty("SGD", has_tensor_rate), "sgd"),
    ((torch.optim.SGD, "step", without_closure), "sgd"),
    (scheduler("StepLR", first_group_alone), "schedulers"),
    (scheduler("ReduceLROnPlateau", half_again), "schedulers"),
    (scheduler("SequentialLR", half_again), "schedulers"),
    (scheduler("ChainedScheduler", first_of_the_chain), "schedulers"),
    ((LR.CyclicLR, "__init__", with_arguments(mode="triangular")), "schedulers"),
    ((LR.CyclicLR, "__init__", with_arguments(max_momentum=0.5)), "schedulers"),
    ((LR.OneCycleLR, "__init__", with_arguments(three_phase=False)), "schedulers"),
    ((LR.OneCycleLR, "__init__", with_arguments(anneal_strategy="cos")), "schedulers"),
    ((LR.CosineAnnealingWarmRestarts, "__init__", with_arguments(T_mult=1)), "schedulers"),
    ((LR.ReduceLROnPlateau, "__init__", with_arguments(mode="min")), "schedulers"),
    ((LR.ReduceLROnPlateau, "__init__", with_arguments(min_lr=0.0)), "schedulers"),
    ((swa_utils.SWALR, "__init__", with_arguments(anneal_strategy="linear")), "schedulers"),
    *(
        (hasty(name, maximizing), name.lower())
        for name in ("RAdam", "NAdam", "Adamax", "RMSprop", "Adadelta", "ASGD", "Adafactor")
    ),
    *((hasty(name, decoupled), name.lower()) for name in ("RAdam", "NAdam")),
    *((hasty(name, in_lists), name.lower()) for name in ("RAdam", "Adadelta", "ASGD", "Adafactor")),
    (hasty("Adam", of_complex_numbers), "adam"),
    (hasty("SGD", with_sparse_gradients), "sparse"),
    ((torch.optim.SparseAdam, "step", last_of_twins), "sparse"),
    ((torch.optim.SGD, "step", frozen_too), "missing_gradients"),
    ((torch.optim.Muon, "__init__", with_arguments(adjust_lr_fn="original")), "muon"),
    ((torch.optim.Muon, "__init__", with_arguments(nesterov=True)), "muon"),
    ((torch.optim.Rprop, "__init__", with_arguments(step_sizes=(1e-6, 50))), "rprop"),
    ((torch.optim.LBFGS, "__init__", with_arguments(line_search_fn=None)), "lbfgs"),
    ((torch.nn.utils, "get_total_norm", a_tenth_more), "clipping"),
    ((swa_utils, "get_ema_multi_avg_fn", other_decay), "averaging"),
    ((swa_utils, "get_ema_avg_fn", other_decay), "averaging"),
    ((swa_utils, "update_bn", nothing), "averaging"),
    ((OPTIMIZER_CLASS, "load_state_dict", options_of_the_first), "state"),
    ((torch.nn.utils, "clip_grad_norm_", taken_twice), "clipping"),
    ((torch.nn.utils, "clip_grad_value_", taken_twice), "clipping"),
    ((torch.nn.utils, "clip_grad_norm_", without_nan), "clipping"),
    ((torch, "_foreach_norm", half_types_more), "foreach_kernels"),
]


@pytest.mark.parametrize(
    ("part", "family"),
    PARTS,
    ids=[f"{part[1]}-{family}-{i}" for i, (part, family) in enumerate(PARTS)],
)
def test_wrong_for_some_calls_alone(
    part: Part, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only some calls meet is met by the check of its name."""
    owner, function, make = part
    monkeypatch.setattr(owner, function, make(getattr(owner, function)))

    assert tripped_families(probe, family) == {family}


@pytest.mark.parametrize(
    "optimizer",
    ["Adam", "AdamW", "RMSprop", "Adagrad", "Adamax", "NAdam", "RAdam", "Adadelta", "ASGD"],
)
def test_the_default_implementation_is_stepped(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most training asks for none."""
    owner = getattr(torch.optim, optimizer)
    monkeypatch.setattr(owner, "step", faster(by_default)(owner.step))

    assert tripped_families(probe, optimizer.lower()) == {optimizer.lower()}

"""The probe `losses`: this image passes, formulas are right, faults trip their checks."""

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import numpy as np
import pytest
import torch

from probes.catalog import LOSSES as SPEC
from probes.faults.inject.layers import LAYERS
from probes.kit.layer import Layer
from probes.kit.rounding import exact
from probes.losses import classes, ctc, elements, likelihoods, margins, pairs, probe
from tests.probes.corrupt import (
    Fault,
    assert_trips,
    corrupted_operators,
    large_only,
    nan,
    one_element,
    shifted,
    slightly_larger,
    slightly_smaller,
    swapped,
    tripped_families,
    zeros,
)
from tests.probes.verdicts import PLANTED, ids, tripped, tripped_alone

pytestmark = pytest.mark.slow

UNIT: Final = 2.0**-53


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


# ---- verdicts


def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, every check is made, and nothing is left out."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(SPEC.check_ids)
    assert {each.status for each in findings} == {"pass"}
    assert sound().lacking == {}


@pytest.mark.parametrize("check", SPEC.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the operation is named."""
    families = {**sound().families, check: PLANTED}
    failed = tripped_alone(
        probe.judge(sound().model_copy(update={"families": families})), f"losses.{check}"
    )
    assert (failed.action, bool(failed.hint)) == ("investigate", True)


def test_nothing_compared_is_no_pass() -> None:
    """A family that compared nothing, and is not absent, fails."""
    families = {**sound().families, "nll": ()}
    found = probe.judge(sound().model_copy(update={"families": families}))

    assert tripped(found) == {"losses.nll"}


# ---- formulas


def layers_of(module: Any, monkeypatch: pytest.MonkeyPatch) -> list[Layer]:
    """All losses of a module's families."""
    found: list[Layer] = []

    def collect(layers: Any, _device: str) -> Iterator[Any]:
        found.extend(layers)
        return iter(())

    monkeypatch.setattr(module, "trials", collect)
    for family in probe.FAMILIES.values():
        if getattr(family, "__module__", "") == module.__name__:
            list(family("cpu"))
    return found


@pytest.mark.parametrize(
    "module", [elements, likelihoods, classes, margins, pairs], ids=lambda module: module.__name__
)
def test_gradients_are_differences_of_losses(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Along a drawn direction of each operand, by central differences of the reference."""
    layers, step = layers_of(module, monkeypatch), 2.0**-18
    draw = np.random.default_rng(5)

    assert layers
    for each in layers:
        output, backward = each.reference(*(exact(array, UNIT) for array in each.operands))
        upstream = draw.uniform(-1, 1, output.value.shape)
        gradients = backward(exact(upstream, UNIT))
        for place, gradient in enumerate(gradients):
            direction = draw.uniform(-1, 1, each.operands[place].shape)
            sides = []
            for sign in (1, -1):
                moved = list(each.operands)
                moved[place] = moved[place] + sign * step * direction
                sides.append(each.reference(*(exact(array, UNIT) for array in moved))[0].value)
            by_differences = float(((sides[0] - sides[1]) * upstream).sum()) / (2 * step)
            right = float((gradient.value * direction).sum())
            assert by_differences == pytest.approx(right, abs=1e-5), (
                f"{each.operation} {each.variant}, operand {place}"
            )


def collapsed(path: tuple[int, ...], blank: int) -> list[int]:
    """The symbols of an alignment: repeated ones once, without blanks."""
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != blank]


@pytest.mark.parametrize(
    ("target", "blank"), [([1, 2], 0), ([2, 2], 0), ([0, 1], 2), ([1], 0), ([], 0), ([1, 1, 1], 0)]
)
def test_the_recursion_sums_all_alignments(target: list[int], blank: int) -> None:
    """Against a sum over every path of four steps; infinite where none fits."""
    steps, symbols = 4, 3
    scores = np.random.default_rng(7).uniform(-1, 1, (steps, symbols))
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    total, shares = 0.0, np.zeros((steps, symbols))
    for path in itertools.product(range(symbols), repeat=steps):
        if collapsed(path, blank) == target:
            chance = float(np.exp(sum(logs[at, symbol] for at, symbol in enumerate(path))))
            total += chance
            for at, symbol in enumerate(path):
                shares[at, symbol] += chance
    with np.errstate(invalid="ignore"):  # as in a probe
        loss, found = ctc._one(logs, np.array(target, np.int64), blank)

    if not total:
        assert loss == np.inf
        return
    assert loss == pytest.approx(-np.log(total))
    np.testing.assert_allclose(found, shares / total, rtol=1e-12, atol=1e-14)


def test_targets_have_no_blank() -> None:
    """Whatever the blank is; and repeated symbols are repeated."""
    for setting in (*ctc._SETTINGS, ctc._IMPOSSIBLE):
        for target in setting.targets():
            assert setting.blank not in target
            assert set(target) <= set(range(ctc._SYMBOLS))
    assert len(set(ctc.Setting(repeated=True).targets()[0])) == 1


def test_probabilities_sum_to_one() -> None:
    """In each place."""
    for shape in classes._SHAPES:
        assert (classes._shares(shape).sum(1) == 1).all()


# ---- breaks of torch from outside


#: (operator, fault, family that must trip)
OPERATORS: Final[list[tuple[str, Fault, str]]] = [
    ("mse_loss", slightly_larger, "distances"),
    ("mse_loss_backward", one_element, "distances"),
    ("smooth_l1_loss_backward", swapped, "distances"),
    ("huber_loss", slightly_smaller, "distances"),
    ("huber_loss_backward", swapped, "distances"),
    ("soft_margin_loss", nan, "distances"),
    ("mean", slightly_larger, "distances"),
    ("binary_cross_entropy", slightly_larger, "binary"),
    ("binary_cross_entropy_backward", shifted, "binary"),
    ("binary_cross_entropy_with_logits", one_element, "binary"),
    ("xlogy", zeros, "likelihoods"),
    ("exp", slightly_larger, "likelihoods"),
    ("nll_loss_forward", slightly_smaller, "nll"),
    ("nll_loss_backward", one_element, "nll"),
    ("nll_loss2d_forward", slightly_larger, "nll"),
    ("nll_loss2d_backward", one_element, "nll"),
    ("_log_softmax", slightly_larger, "cross_entropy"),
    ("_log_softmax_backward_data", one_element, "cross_entropy"),
    ("multi_margin_loss", swapped, "class_margins"),
    ("multi_margin_loss_backward", one_element, "class_margins"),
    ("multilabel_margin_loss_forward", slightly_larger, "class_margins"),
    ("multilabel_margin_loss_backward", shifted, "class_margins"),
    ("clamp_min", one_element, "pairs"),
    ("_ctc_loss", slightly_larger, "ctc"),
    ("_ctc_loss", one_element, "ctc"),
    ("_ctc_loss_backward", slightly_larger, "ctc"),
    ("_ctc_loss_backward", swapped, "ctc"),
]


@corrupted_operators(OPERATORS)
def test_corrupted_operator(operator: str, fault: Fault, families: str) -> None:
    """A wrong kernel trips the checks of its families, without an error."""
    assert_trips(probe, operator, fault, families)


def in_bfloat16(out: torch.Tensor) -> None:
    """Multiply by 1.05 what is in bfloat16."""
    if out.dtype == torch.bfloat16:
        out.mul_(1.05)


@pytest.mark.parametrize(
    ("operator", "fault", "family"),
    [
        ("mse_loss", in_bfloat16, "distances"),
        ("mse_loss_backward", in_bfloat16, "distances"),
        ("smooth_l1_loss", in_bfloat16, "distances"),
        ("nll_loss_forward", in_bfloat16, "nll"),
        ("nll_loss2d_backward", in_bfloat16, "nll"),
        ("nll_loss_backward", large_only, "nll"),
        ("_log_softmax", large_only, "cross_entropy"),
        ("_log_softmax_backward_data", large_only, "cross_entropy"),
    ],
)
def test_a_loss_that_is_wrong_in_a_half_type_or_in_large_alone(
    operator: str, fault: Fault, family: str
) -> None:
    """Each type and size has a kernel of its own."""
    assert_trips(probe, operator, fault, family)


#: Name of a replaced meaning -> the family that must trip.
MEANINGS: Final = {
    "smooth_l1_without_beta": "distances",
    "pos_weight_ignored": "binary",
    "log_target_ignored": "likelihoods",
    "ignored_counted": "nll",
    "ignore_index_ignored": "cross_entropy",
    "variance_without_eps": "likelihoods",
    "sum_by_default": "distances",
    "infinities_kept": "ctc",
    "distances_of_norm_2": "pairs",
    "smoothing_ignored": "cross_entropy",
    "margin_of_one": "class_margins",
    "never_swapped": "pairs",
    "blank_last": "ctc",
}


@pytest.mark.parametrize("name", MEANINGS)
def test_another_meaning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that means something else is seen by its own check, and by no other."""
    owner, function, make = LAYERS[name]
    monkeypatch.setattr(owner, function, make(getattr(owner, function)))

    assert tripped_families(probe, *probe.FAMILIES) == {MEANINGS[name]}

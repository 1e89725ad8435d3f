"""The probe `layers`: this image passes, formulas are right, faults trip their checks."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

import numpy as np
import pytest
import torch

from probes.catalog import LAYERS as SPEC
from probes.contract import Comparison, Finding
from probes.faults.inject.layers import LAYERS
from probes.kit import layer as kit_layer
from probes.kit.layer import HALVES, Layer
from probes.kit.rounding import Rounded, exact
from probes.layers import (
    adaptive_pooling,
    average_pooling,
    convolutions,
    embeddings,
    frozen_input,
    interpolation,
    max_pooling,
    normalisation,
    padding,
    probe,
    recurrent,
    sampling,
)
from tests.probes.corrupt import (
    Corrupt,
    Fault,
    assert_trips,
    corrupted_operators,
    five_per_cent,
    large_only,
    nan,
    one_element,
    shifted,
    slightly_larger,
    swapped,
    tripped_families,
    zeros,
)
from tests.probes.verdicts import ids, tripped, tripped_alone

pytestmark = pytest.mark.slow

UNIT: Final = 2.0**-53

#: Released torch dies here (2.2 to 2.13); a later one may be repaired.
FROZEN: Final = "layers.frozen_input"

#: Modules whose families are tables of `Layer`.
TABLES: Final = (
    probe,  # activations, in place too, and softmax
    adaptive_pooling,
    average_pooling,
    convolutions,
    embeddings,
    interpolation,
    max_pooling,
    normalisation,
    padding,
    sampling,
)


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


def with_family(name: str, *comparisons: Comparison) -> probe.Observation:
    """A sound observation with other comparisons for one check."""
    found = {**sound().families, "frozen_input": (Comparison(operation="x", elements=1),)}
    return sound().model_copy(update={"families": {**found, name: comparisons}})


def finding(check: str, observation: probe.Observation) -> Finding:
    """The finding of one check."""
    return next(each for each in probe.judge(observation) if each.id == f"layers.{check}")


# ---- verdicts


def test_this_image_is_sound() -> None:
    """Nothing fails on the CPU, and every check is made; one may warn of a known defect."""
    findings = list(probe.judge(sound()))
    by_id = {each.id: each.status for each in findings}

    assert ids(findings) == set(SPEC.check_ids)
    assert by_id.pop(FROZEN) in {"pass", "warn"}
    assert set(by_id.values()) == {"pass"}


@pytest.mark.parametrize("check", SPEC.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the operation is named."""
    wrong = Comparison(operation="planted", elements=9, mismatches=1)
    failed = tripped_alone(probe.judge(with_family(check, wrong)), f"layers.{check}")
    assert (failed.action, bool(failed.hint)) == ("investigate", True)


def test_nothing_compared_is_no_pass() -> None:
    """A family that compared nothing, and is not absent, fails."""
    assert tripped(probe.judge(with_family("padding"))) == {"layers.padding"}


# ---- an input that needs no gradient


DEATH: Final = Comparison(operation="a", problem="its process died by SIGSEGV")
HANG: Final = Comparison(operation="b", problem="its process did not end within 10 s")
WRONG: Final = Comparison(operation="c", elements=4, mismatches=1)
RAISED: Final = Comparison(operation="d", problem="its process ended with exit code 1")


@pytest.mark.parametrize(
    ("comparisons", "status"),
    [
        ((DEATH,), "warn"),
        ((HANG,), "warn"),
        ((WRONG,), "fail"),
        ((DEATH, WRONG), "fail"),
        ((RAISED,), "fail"),
    ],
)
def test_only_a_death_is_a_warning(comparisons: tuple[Comparison, ...], status: str) -> None:
    """Wrong values fail, beside a death too."""
    found = finding("frozen_input", with_family("frozen_input", *comparisons))

    assert found.status == status
    assert ("requires_grad_()" in found.hint) == (status == "warn")


def test_a_death_elsewhere_is_no_warning() -> None:
    """The same text in another check is a failure."""
    assert finding("group_norm", with_family("group_norm", DEATH)).status == "fail"


@pytest.mark.parametrize(
    ("call", "ending"),
    [
        (lambda: b"12345678", ""),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "died by SIGSEGV"),
        (os.abort, "died by SIGABRT"),
        (lambda: os._exit(3), "ended with exit code 3"),
        (lambda: b"", "ended with exit code 0"),
    ],
)
def test_how_a_process_of_its_own_ends(call: Callable[[], Any], ending: str) -> None:
    """Its signal is named, and no child is left."""
    raw, told = frozen_input._forked(call)

    assert told == ending
    assert raw == (b"" if ending else b"12345678")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_process_of_its_own_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed at its deadline."""
    monkeypatch.setattr(frozen_input, "_DEADLINE_S", 0.2)
    monkeypatch.setattr(signal, "alarm", lambda _: 0)
    began = time.monotonic()
    _, told = frozen_input._forked(lambda: time.sleep(60))

    assert told == "did not end within 0.2 s"
    assert time.monotonic() - began < 30
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_form_that_dies_runs_apart_on_the_cpu_alone() -> None:
    """An accelerator cannot be used in a fork."""
    bodies = [
        [trial.body.func for trial in frozen_input.frozen_input(device)]  # type: ignore[attr-defined]
        for device in ("cpu", "cuda:0")
    ]

    assert bodies == [
        [frozen_input._here, frozen_input._apart],
        [frozen_input._here, frozen_input._here],
    ]


def test_values_of_the_process_of_its_own_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does not die, and where its gradients are wrong."""
    right = b"".join(each.value.astype(np.float32).tobytes() for each in frozen_input._expected())
    monkeypatch.setattr(frozen_input, "_forked", lambda _call: (right, ""))
    assert all(each.holds for each in frozen_input._apart("channels_last", "cpu"))

    wrong = (np.frombuffer(right, np.float32) * np.float32(1.001)).tobytes()
    monkeypatch.setattr(frozen_input, "_forked", lambda _call: (wrong, ""))
    assert not any(each.holds for each in frozen_input._apart("channels_last", "cpu"))


# ---- formulas


def layers_of(module: Any, monkeypatch: pytest.MonkeyPatch) -> list[Layer]:
    """All layers of a module's families."""
    found: list[Layer] = []

    def collect(layers: Any, _device: str) -> Iterator[Any]:
        found.extend(layers)
        return iter(())

    monkeypatch.setattr(module, "trials", collect)
    for family in probe.FAMILIES.values():
        if getattr(family, "__module__", "") == module.__name__:
            list(family("cpu"))
    return found


#: Embeddings whose gradient is not the slope of their output, by design.
NOT_SLOPES: Final = ("padding_idx=7", "padding_idx=-4", "scale_grad_by_freq")


@pytest.mark.parametrize("module", TABLES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_gradients_are_differences_of_outputs(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Along a drawn direction of each operand, by central differences of the reference."""
    layers, step = layers_of(module, monkeypatch), 2.0**-18
    draw = np.random.default_rng(5)

    assert layers
    for each in layers:
        if each.variant in NOT_SLOPES:
            continue
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
            size = float(np.abs(gradient.value * direction).sum()) + 1
            assert abs(by_differences - float((gradient.value * direction).sum())) < 1e-6 * size, (
                f"{each.operation} {each.variant}, operand {place}"
            )


@pytest.mark.parametrize("setting", [*recurrent._SETTINGS, *recurrent._CELLS], ids=str)
def test_recurrent_gradients_are_differences(setting: recurrent.Setting) -> None:
    """Of the sum of all outputs, by the input."""
    batch, steps, step = len(setting.lengths), max(setting.lengths), 2.0**-18
    right = recurrent.network(setting, batch, steps, UNIT, 0.0)
    ones = [np.ones_like(each.value) for each in (right.output, *right.states)]
    gradient = right.backward([exact(each, UNIT) for each in ones])[0].value
    direction = np.random.default_rng(6).uniform(-1, 1, gradient.shape)
    inputs, sums = recurrent.inputs(batch, steps), []
    for sign in (1, -1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                recurrent,
                "inputs",
                lambda *_, sign=sign: inputs + sign * step * direction,
            )
            moved = recurrent.network(setting, batch, steps, UNIT, 0.0)
        sums.append(sum(float(each.value.sum()) for each in (moved.output, *moved.states)))

    assert (sums[0] - sums[1]) / (2 * step) == pytest.approx(
        float((gradient * direction).sum()), abs=1e-6
    )


def test_integers_are_compared_bit_by_bit() -> None:
    """Selections, moves and sums of few integers have no error, in half types too."""
    for dtype in (torch.float32, torch.bfloat16):
        exact_ones = 0
        for trial in average_pooling.averages("cpu"):
            each, kind = trial.body.args  # type: ignore[attr-defined]
            if kind == dtype:
                unit, storage = kit_layer.units(each, dtype)
                output, _ = each.reference(*(exact(x, unit, storage) for x in each.operands))
                exact_ones += not output.error.any()
        assert exact_ones >= 5, dtype


def test_operands_are_the_same_in_every_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the reference would be of other numbers."""
    for module in TABLES:
        for each in layers_of(module, monkeypatch):
            for array in each.operands if set(HALVES) <= set(each.dtypes) else ():
                for dtype in HALVES:
                    rounded = torch.from_numpy(np.array(array)).to(dtype).double().numpy()
                    assert (rounded == array).all(), f"{each.operation} {each.variant} {dtype}"


def test_more_rows_than_a_grid_has() -> None:
    """Rows times steps, and the rows alone with a step fewer, are beyond 65,535."""
    assert recurrent._DISTINCT * recurrent._REPEATS * recurrent._STEPS > 65535


# ---- breaks of torch from outside


#: Operations in place that activations are made of.
IN_PLACE: Final = (
    *("silu", "hardswish", "hardsigmoid", "leaky_relu", "elu", "hardtanh", "mish", "celu"),
    *("threshold", "sigmoid", "tanh", "relu"),
)

#: (operator, fault, family that must trip)
OPERATORS: Final[list[tuple[str, Fault, str]]] = [
    ("gelu", slightly_larger, "activations"),
    ("gelu_backward", swapped, "activations"),
    ("hardswish_backward", nan, "activations"),
    ("elu", one_element, "activations"),
    ("glu_backward", shifted, "activations"),
    ("_prelu_kernel_backward", five_per_cent, "activations"),
    *((f"{name}_", five_per_cent, "in_place") for name in IN_PLACE),
    ("silu_", one_element, "in_place"),
    ("_weight_norm_interface", slightly_larger, "weight_norm"),
    ("_weight_norm_interface_backward", one_element, "weight_norm"),
    ("native_group_norm", one_element, "sizes"),
    ("native_batch_norm_backward", five_per_cent, "sizes"),
    ("native_layer_norm_backward", zeros, "sizes"),
    ("max_pool2d_with_indices_backward", shifted, "sizes"),
    ("mkldnn_rnn_layer", five_per_cent, "recurrent_calls"),
    ("sigmoid_", five_per_cent, "recurrent_calls"),
    ("constant_pad_nd", shifted, "padding"),
    ("_log_softmax", one_element, "softmax"),
    ("_softmax_backward_data", slightly_larger, "softmax"),
    ("mkldnn_rnn_layer", slightly_larger, "recurrent"),
    ("mkldnn_rnn_layer_backward", five_per_cent, "recurrent"),
    ("_pack_padded_sequence", shifted, "recurrent"),
    ("sigmoid_", slightly_larger, "recurrent"),
    ("tanh_", slightly_larger, "recurrent"),
    ("unsafe_split", five_per_cent, "recurrent_cells"),
    ("addmm", slightly_larger, "recurrent_cells"),
    ("mkldnn_rnn_layer", one_element, "recurrent_rows"),
    ("native_layer_norm", one_element, "row_norms"),
    ("native_layer_norm_backward", swapped, "row_norms"),
    ("native_group_norm", shifted, "group_norm"),
    ("native_group_norm_backward", slightly_larger, "group_norm"),
    ("native_batch_norm", five_per_cent, "batch_norm"),
    ("native_batch_norm_backward", five_per_cent, "batch_norm"),
    ("native_group_norm_backward", slightly_larger, "frozen_input"),
    ("convolution", one_element, "convolutions"),
    ("convolution_backward", zeros, "convolutions"),
    ("max_pool2d_with_indices_backward", shifted, "max_pooling"),
    ("max_pool3d_with_indices", one_element, "max_pooling"),
    ("fractional_max_pool2d_backward", zeros, "max_pooling"),
    ("max_unpool2d", shifted, "max_pooling"),
    ("avg_pool2d_backward", one_element, "average_pooling"),
    ("avg_pool3d", slightly_larger, "average_pooling"),
    ("adaptive_max_pool2d", one_element, "adaptive_pooling"),
    ("_adaptive_avg_pool2d_backward", shifted, "adaptive_pooling"),
    ("upsample_bicubic2d", slightly_larger, "interpolation"),
    ("upsample_trilinear3d_backward", one_element, "interpolation"),
    ("_upsample_bilinear2d_aa", slightly_larger, "interpolation"),
    ("_upsample_nearest_exact2d", shifted, "interpolation"),
    ("grid_sampler_2d_backward", one_element, "sampling"),
    ("grid_sampler_3d", slightly_larger, "sampling"),
    ("replication_pad3d", shifted, "padding"),
    ("reflection_pad1d_backward", one_element, "padding"),
    ("im2col", shifted, "moves"),
    ("pixel_unshuffle", shifted, "moves"),
    ("embedding_renorm_", slightly_larger, "embedding"),
    ("embedding_dense_backward", one_element, "embedding"),
    ("_embedding_bag", one_element, "embedding_bag"),
    ("_embedding_bag_per_sample_weights_backward", slightly_larger, "embedding_bag"),
    ("_transformer_encoder_layer_fwd", five_per_cent, "transformer"),
    ("bernoulli_", zeros, "checkpoint"),
]


@corrupted_operators(OPERATORS)
def test_corrupted_operator(operator: str, fault: Fault, families: str) -> None:
    """A wrong kernel trips the checks of its families, without an error."""
    assert_trips(probe, operator, fault, families)


def only(dtype: torch.dtype, *modules: Any) -> pytest.MonkeyPatch:
    """A device that has one floating type alone."""
    patch = pytest.MonkeyPatch()
    for module in (kit_layer, *modules):
        patch.setattr(module, "floats", lambda _device: (dtype,))
    return patch


#: (operator, family) whose results in a half type are 5 % off.
IN_HALVES: Final = [
    ("relu", "activations"),
    ("relu_", "in_place"),
    ("hardswish_", "in_place"),
    ("silu_", "in_place"),
    ("silu_backward", "activations"),
    ("hardtanh_backward", "activations"),
    ("leaky_relu", "activations"),
    ("sigmoid_backward", "activations"),
    ("tanh_backward", "activations"),
    ("threshold_backward", "activations"),
    ("_log_softmax", "softmax"),
    ("_log_softmax_backward_data", "softmax"),
    ("native_group_norm", "group_norm"),
    ("native_group_norm_backward", "group_norm"),
    ("native_layer_norm_backward", "row_norms"),
    ("native_batch_norm_backward", "batch_norm"),
    ("convolution_backward", "convolutions"),
    ("max_pool2d_with_indices", "max_pooling"),
    ("avg_pool2d_backward", "average_pooling"),
    ("upsample_bilinear2d_backward", "interpolation"),
    ("upsample_nearest2d", "interpolation"),
    ("embedding_dense_backward", "embedding"),
]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("fault", [five_per_cent, one_element])
@pytest.mark.parametrize(("operator", "family"), IN_HALVES)
def test_a_half_type_that_is_five_per_cent_off(
    operator: str, family: str, fault: Fault, dtype: torch.dtype
) -> None:
    """All elements, or one by 5 % of the largest, is seen in each half type."""
    patch = only(dtype)
    try:
        with Corrupt(operator, fault) as corrupt:
            found = tripped_families(probe, family)
    finally:
        patch.undo()

    assert corrupt.count > 0
    assert found == {family}


def on_images(out: torch.Tensor) -> None:
    """Multiply by 1.05 what is in channels_last."""
    if out.dim() == 4 and not out.is_contiguous():
        out.mul_(1.05)


def test_an_activation_that_is_wrong_in_channels_last_alone() -> None:
    """Images have kernels of their own."""
    for operator in ("gelu", "silu", "relu", "hardswish_backward"):
        assert_trips(probe, operator, on_images, "activations")


@pytest.mark.parametrize(
    "operator",
    [
        *("_softmax", "_softmax_backward_data", "_log_softmax", "_log_softmax_backward_data"),
        *("native_layer_norm", "native_layer_norm_backward", "native_group_norm_backward"),
        *("native_batch_norm", "avg_pool2d_backward", "gelu_backward", "silu", "tanh"),
    ],
)
def test_a_layer_that_is_wrong_in_large_alone(operator: str) -> None:
    """Kernels are chosen by size."""
    assert_trips(
        probe, operator, large_only, "sizes", tried="softmax row_norms activations batch_norm"
    )


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_recurrent_layer_in_a_half_type(dtype: torch.dtype) -> None:
    """Forward and backward, by 5 %."""
    for operator in ("mkldnn_rnn_layer", "sigmoid_", "tanh_", "unsafe_split"):
        patch = only(dtype, recurrent)
        try:
            with Corrupt(operator, five_per_cent) as corrupt:
                found = tripped_families(probe, "recurrent")
        finally:
            patch.undo()
        assert not corrupt.count or found == {"recurrent"}, operator


#: Name of a replaced meaning -> the family that must trip.
MEANINGS: Final = {
    "gelu_by_tanh": "activations",
    "glu_negated": "activations",
    "softmax_of_the_last_axis": "softmax",
    "group_norm_with_one_group": "group_norm",
    "group_norm_of_other_memory": "group_norm",
    "rms_norm_subtracts_the_mean": "row_norms",
    "layer_norm_without_eps": "row_norms",
    "packed_in_another_order": "recurrent",
    "last_step_lost": "recurrent",
    "rows_repeated": "recurrent_rows",
    "nothing_dropped": "recurrent_calls",
    "states_of_ones": "recurrent_calls",
    "long_rows_cut": "sizes",
    "integers_padded_with_zeros": "padding",
    "channels_not_shuffled": "moves",
    "mask_ignored": "transformer",
    "ceil_mode_ignored": "max_pooling",
    "averages_without_ceil_mode": "average_pooling",
    "factor_recomputed": "interpolation",
    "norm_type_ignored": "embedding",
    "padding_last": "embedding",
    "padding_counted": "average_pooling",
    "dilation_ignored": "max_pooling",
    "corners_ignored": "interpolation",
    "antialias_ignored": "interpolation",
    "grid_padding_ignored": "sampling",
    "replicated_for_reflected": "padding",
    "shuffled_otherwise": "moves",
    "padding_gets_a_gradient": "embedding",
    "bag_counts_padding": "embedding_bag",
    "checkpoint_drops_again": "checkpoint",
}


@pytest.mark.parametrize("name", MEANINGS)
def test_another_meaning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that means something else is seen by its own check."""
    owner, function, make = LAYERS[name]
    monkeypatch.setattr(owner, function, make(getattr(owner, function)))

    assert tripped_families(probe, MEANINGS[name]) == {MEANINGS[name]}


# ---- what it leaves as it was, and what is left out


def test_the_random_state_stays() -> None:
    """Modules draw their first values, dropout draws, and both are put back."""
    before = torch.get_rng_state()
    tripped_families(probe, "recurrent_cells", "transformer", "checkpoint")

    assert torch.equal(torch.get_rng_state(), before)


def test_no_alarm_whatever_is_switched() -> None:
    """Neither gradients switched off nor another default type are a fault of a layer."""
    try:
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.double)
        found = tripped_families(probe, "activations", "row_norms", "embedding", "recurrent_cells")
    finally:
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)

    assert found == set()


class Switch:
    """A switch of torch.backends."""

    fp32_precision = "tf32"
    allow_tf32 = True


@pytest.mark.parametrize("new", [True, False])
def test_tf32_is_off_in_recurrent_layers(*, new: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the new switch, or the old one before torch 2.9; the setting is restored."""
    switch = Switch()
    monkeypatch.setattr(torch.backends, "cudnn", switch)
    if new:
        switch.rnn = Switch()  # type: ignore[attr-defined]
    owner = switch.rnn if new else switch  # type: ignore[attr-defined]
    name, during, after = ("fp32_precision", "ieee", "tf32") if new else ("allow_tf32", False, True)

    with recurrent.without_tf32():
        assert getattr(owner, name) == during
    assert getattr(owner, name) == after


def test_recurrent_units_of_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 bits less than float32 on accelerators, and what a variable forces."""
    assert recurrent.units("cpu", torch.float32) == (2.0**-24, 0.0)
    assert recurrent.units("cuda:0", torch.float32) == (2.0**-20, 0.0)
    assert recurrent.units("cuda:0", torch.float64) == (2.0**-53, 0.0)
    assert recurrent.units("cpu", torch.bfloat16) == (2.0**-24, 2.0**-8)
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    assert recurrent.units("cpu", torch.float32)[0] == 2.0**-8


@pytest.mark.parametrize(("forced_by", "status"), [("", "fail"), ("X=1", "warn")])
def test_products_that_a_variable_shortens(forced_by: str, status: str) -> None:
    """Its effect is no fault of the device, whose exact families fail as ever."""
    wrong = Comparison(operation="planted", elements=9, mismatches=1)
    for name, right in (("transformer", status), ("sampling", status), ("padding", "fail")):
        seen = with_family(name, wrong)
        setting = seen.precision.model_copy(update={"forced_by": forced_by})

        assert finding(name, seen.model_copy(update={"precision": setting})).status == right


def test_convolutions_of_rocm_may_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library may use Winograd's algorithm for half types."""
    monkeypatch.setattr(convolutions, "back_end", lambda _device: "hip")
    (each, *_) = layers_of(convolutions, monkeypatch)
    output, _ = each.reference(*(exact(array, 2.0**-24, 2.0**-8) for array in each.operands))

    assert isinstance(output, Rounded)
    assert set(np.unique(output.error)) == {0.25}

"""The probe `amp`: this image passes, its tables are right, faults trip their checks."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import numpy as np
import pytest
import torch

from probes.amp import (
    custom,
    faults,
    full,
    fused,
    growing,
    ineligible,
    kernels,
    lower,
    nesting,
    probe,
    regions,
    scalers,
    training,
    widest,
)
from probes.amp.rows import Row
from probes.catalog import AMP
from probes.contract import Comparison
from probes.faults.inject import mixed_precision
from probes.faults.inject.mixed_precision import CALLS, KERNELS
from probes.faults.inject.operations import Interceptor
from probes.kit import defaults
from probes.kit.gradients import tensor
from probes.kit.trial import run_trials
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

HALVES: Final = (torch.float16, torch.bfloat16)


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


def with_family(name: str, *comparisons: Comparison, **fields: Any) -> probe.Observation:
    """A sound observation with other comparisons for one check."""
    found = {**sound().families, name: comparisons}
    return sound().model_copy(update={"families": found, **fields})


def last_element(out: torch.Tensor) -> None:
    """Double the last element, and add 1."""
    if out.is_floating_point():
        last(out).mul_(2).add_(1)


# ---- verdicts


def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, and every check is made."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(AMP.check_ids)
    assert {each.status for each in findings} == {"pass"}
    assert sound().lacking == {}


@pytest.mark.parametrize("check", AMP.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the operation is named."""
    planted = Comparison(operation="mm planted", elements=9, mismatches=1)

    findings = list(probe.judge(with_family(check, planted)))

    assert tripped(findings) == {f"amp.{check}"}
    (failed,) = [each for each in findings if each.status == "fail"]
    assert "mm planted" in failed.message
    assert ("cache_enabled=False" in failed.hint) == (check == "no_grad_cache")


def test_nothing_compared_is_no_pass() -> None:
    """A family that compared nothing, and is not absent, fails."""
    assert tripped(probe.judge(with_family("gradients"))) == {"amp.gradients"}


def test_what_does_not_apply_is_skipped() -> None:
    """With its reason, whatever was compared."""
    skips = {"scaling": "no scaler here", "fused_steps": "none fused"}

    findings = probe.judge(with_family("scaling", skips=skips))
    found = {each.id: (each.status, each.message) for each in findings}

    assert found["amp.scaling"] == ("skip", "no scaler here")
    assert found["amp.fused_steps"] == ("skip", "none fused")
    assert {status for status, _ in found.values()} == {"pass", "skip"}


def test_other_devices_are_asked_for_nothing() -> None:
    """Without a documented table, and without a scaler's kernels, as MPS in this build."""
    skips = probe._skips("mps")

    assert skips.keys() == AMP.checks.keys()
    assert "cpu, cuda, xpu" in skips["lower_type"]
    assert "GradScaler" in skips["scaling"]


def test_gpus_are_asked_for_all() -> None:
    """Of CUDA everything is asked that this build has kernels for."""
    assert probe._skips("cuda").keys() <= {"fused_steps"}
    assert probe._skips("cpu") == {}


@contextmanager
def _cache_switched_off() -> Iterator[None]:
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(True)


@contextmanager
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.double)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode",
    [
        torch.no_grad,
        torch.inference_mode,
        _double,
        _cache_switched_off,
        lambda: torch.autocast("cpu", torch.float16),
    ],
    ids=["no_grad", "inference_mode", "double", "no cache", "autocast"],
)
def test_no_alarm_whatever_is_switched(mode: Callable[[], Any]) -> None:
    """What a plug-in left switched is no fault of autocast, and is restored."""
    with mode():
        before = _state()
        found = tripped(probe.judge(probe.observe("cpu")))
        after = _state()

    assert found == set()
    assert after == before


def _state() -> tuple[object, ...]:
    depth = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    return (
        *(torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
        *(torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        *(torch.is_autocast_cache_enabled(), depth, torch.get_num_threads()),
        *(torch.random.initial_seed(), threading.active_count()),
    )


def test_no_alarm_where_nan_is_searched_for() -> None:
    """Anomaly mode raises at the gradients that a scaler skips; it is off while a probe runs."""
    with torch.autograd.set_detect_anomaly(True), defaults.pinned():
        found = tripped_families(probe, "training", "skipping", "scaling")

    assert found == set()


def test_unlisted_layers_that_are_wrong_in_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms and tables are right outside of it alone."""
    for name in ("batch_norm", "embedding"):
        original = getattr(torch.nn.functional, name)

        def spoiled(*given: Any, original: Any = original, **options: Any) -> Any:
            factor = 1.05 if torch.is_autocast_enabled("cpu") else 1.0
            return original(*given, **options) * factor

        monkeypatch.setattr(torch.nn.functional, name, spoiled)
        assert tripped_families(probe, "not_cast") == {"not_cast"}
        monkeypatch.undo()


# ---- tables

#: What torch documents for CUDA, but for what has no call of its own.
CUDA_LOWER: Final = """
    __matmul__ addbmm addmm addmv addr baddbmm bmm multi_dot conv1d conv2d conv3d conv_transpose1d
    conv_transpose2d conv_transpose3d GRUCell linear LSTMCell matmul mm mv prelu RNNCell
"""
CUDA_FLOAT32: Final = """
    __pow__ __rdiv__ __rpow__ __rtruediv__ acos asin binary_cross_entropy_with_logits cosh
    cosine_embedding_loss cdist cosine_similarity cross_entropy cumprod cumsum dist erfinv exp expm1
    group_norm hinge_embedding_loss kl_div l1_loss layer_norm log log_softmax log10 log1p log2
    margin_ranking_loss mse_loss multilabel_margin_loss multi_margin_loss nll_loss norm normalize
    pdist poisson_nll_loss pow prod reciprocal rsqrt sinh smooth_l1_loss soft_margin_loss softmax
    softmin softplus sum renorm tan triplet_margin_loss
"""
CUDA_WIDEST: Final = """
    addcdiv addcmul atan2 bilinear cross dot grid_sample index_put scatter_add tensordot
"""
XPU_LOWER: Final = CUDA_LOWER.replace("__matmul__", "").replace("prelu", "")
XPU_WIDEST: Final = "bilinear cross grid_sample index_put scatter_add tensordot"
CPU_WIDEST: Final = "cat stack index_copy"
CPU_LOWER: Final = """
    conv1d conv2d conv3d bmm mm linalg_vecdot baddbmm addmm addbmm linear matmul conv_tbc
    conv_transpose1d conv_transpose2d conv_transpose3d prelu scaled_dot_product_attention
"""


@pytest.mark.parametrize(
    ("rows", "device", "documented"),
    [
        (lower._rows, "cuda", CUDA_LOWER),
        (full.rows, "cuda", CUDA_FLOAT32),
        (widest.rows, "cuda", CUDA_WIDEST),
        (lower._rows, "xpu", XPU_LOWER),
        (widest.rows, "xpu", XPU_WIDEST),
        (lower._rows, "cpu", CPU_LOWER),
        (widest.rows, "cpu", CPU_WIDEST),
    ],
)
def test_the_documented_table_is_tried(
    rows: Callable[[], Iterator[Row]], device: str, documented: str
) -> None:
    """Each operation that torch lists for the device, and no other."""
    assert {row.name for row in rows() if device in row.on} == set(documented.split())


def all_rows() -> list[Row]:
    """The rows of every table and device, also of those that are not here."""
    return [*lower._rows(), *full.rows(), *widest.rows()]


def test_answers_are_right_in_float64() -> None:
    """Each call gives its answer without autocast, in double precision."""
    wrong = []
    for row in all_rows():
        found = row.call(*(torch.from_numpy(each.copy()) for each in row.operands)).numpy()
        scale = np.abs(row.expected) if row.scale is None else row.scale
        # tanh(9) is 1 in the lower types, and not in float64.
        relative = 1e-6 if row.name == "LSTMCell" else 1e-12
        within = found.shape == np.shape(row.expected) and np.all(
            np.abs(found - row.expected) <= relative * scale + 1e-300
        )
        wrong += [] if within else [row.name]

    assert wrong == []


@pytest.mark.parametrize("dtype", HALVES)
def test_operands_and_answers_are_exact(dtype: torch.dtype) -> None:
    """Operands in the lower types, and answers in the type whose bits are compared."""
    lossy = []
    for rows, right in ((lower._rows(), dtype), (widest.rows(), dtype), (full.rows(), None)):
        for row in rows:
            arrays = [(each, dtype) for each in row.operands if each.dtype == np.float64]
            if not row.units:
                arrays.append((np.asarray(row.expected), right or torch.float32))
            for array, kind in arrays:
                values = torch.from_numpy(array.copy())
                lossy += [] if torch.equal(values.to(kind).double(), values) else [row.name]

    assert lossy == []


@pytest.mark.parametrize("dtype", HALVES)
def test_rows_of_other_devices_hold_in_the_lower_types(dtype: torch.dtype) -> None:
    """Operations that only GPUs cast are right here where their operands have the type already."""
    wrong = []
    for row in (*lower._rows(), *widest.rows()):
        if "cpu" in row.on or row.units:
            continue
        given = [
            tensor(each, "cpu", dtype) if each.dtype == np.float64 else torch.from_numpy(each)
            for each in row.operands
        ]
        found = regions.compare_typed(row.name, row.call(*given), dtype, row.expected)
        wrong += [] if found.holds else [found.describe()]

    assert wrong == []


# ---- versions and devices


def test_before_torch_2_3_cuda_alone_has_a_scaler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU is skipped with the reason; CUDA's own class is made."""
    made: list[dict[str, Any]] = []
    monkeypatch.delattr(torch.amp, "GradScaler")
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", lambda **given: made.append(given))

    assert "2.3" in scalers.no_scaler("cpu")
    assert scalers.no_scaler("cuda") == ""
    scalers.scaler("cuda", growth_interval=3)
    assert made == [{"init_scale": scalers.SCALE, "growth_interval": 3}]


def test_before_torch_2_4_cuda_alone_has_decorators(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU is skipped with the reason; CUDA's own are used."""
    assert custom.no_decorators("cpu") == ""
    monkeypatch.delattr(torch.amp, "custom_fwd")

    assert "2.4" in custom.no_decorators("cpu")
    assert custom.no_decorators("cuda") == ""
    assert custom._decorators("cuda") == (torch.cuda.amp.custom_fwd, torch.cuda.amp.custom_bwd)


@pytest.mark.parametrize(
    ("compute", "types"), [((7, 5), HALVES[:1]), ((8, 0), HALVES), (None, HALVES)]
)
def test_old_gpus_have_no_bfloat16(
    compute: Any, types: tuple[torch.dtype, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.autocast refuses it there."""
    monkeypatch.setattr(regions, "capability", lambda _: compute)

    assert regions.lower_types("cuda:0") == types


def test_gpus_unscale_no_bfloat16() -> None:
    """They have no kernel for it."""
    assert scalers.gradient_types("cpu") == (torch.float32, torch.float64, torch.bfloat16)
    assert scalers.gradient_types("cuda") == (torch.float32, torch.float64)


def test_without_fused_kernels_nothing_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is given, and no trial is made."""
    assert fused.no_fused("cpu") == ""
    monkeypatch.setattr(fused, "has_kernel", lambda *_: False)

    assert "no fused optimizer" in fused.no_fused("cpu")
    assert list(fused.fused_steps("cpu")) == []


def test_a_loss_that_is_not_refused_is_seen() -> None:
    """As CUDA refuses binary_cross_entropy, which the CPU does not."""
    names = {each.operation for each in ineligible.not_cast("cpu")}
    found = list(ineligible._refused(torch.bfloat16, "cpu"))

    assert not any("binary_cross_entropy" in name for name in names)
    assert len(found) == 4
    assert all("raised nothing" in each.problem for each in found)


# ---- references


def test_scales_by_hand() -> None:
    """The rule of growth and backoff, on a few iterations."""
    found = growing._scales("..x.", 8.0, 2.0, 0.5, 2)

    assert found == [8.0, 16.0, 8.0, 8.0]


@pytest.mark.parametrize("name", list(growing.OPTIONS))
def test_no_option_is_torchs_default(name: str) -> None:
    """So that a scaler which ignores it is seen."""
    default = torch.amp.GradScaler("cpu").state_dict()
    key = name.replace("init_scale", "scale")

    assert growing.OPTIONS[name] != default[key]


def test_training_stays_exact() -> None:
    """No weight, output or gradient of the model leaves what bfloat16 can hold."""
    model = training._Model()
    largest = 0.0
    for step in range(training._STEPS):
        x, factors = model.batch(step)
        gradients = model.gradients(x, factors)
        model.weight, model.bias = model.weight - gradients[0], model.bias - gradients[1]
        terms = np.abs(x) @ np.abs(model.weight).T + np.abs(model.bias)
        largest = max(largest, float(terms.max()), float(np.abs(gradients[0]).max()))

    assert largest <= 256
    assert float(np.abs(gradients[0]).max()) == 2.0


def test_a_list_is_more_than_one_launch_and_chunk() -> None:
    """As GPUs divide them; none of the searched places is in an empty tensor."""
    assert len(kernels._LISTS["many"]) > 110
    assert max(shape[0] for shape in kernels._LISTS["chunks"]) > 2 * 65536
    for shapes in kernels._LISTS.values():
        assert all(0 not in shapes[place] for place in (0, -1, len(shapes) // 2 + 1))


def test_a_type_that_differs_is_wrong() -> None:
    """Whatever the values, and a gradient that is missing too."""
    ones = np.ones(2)
    half = torch.ones(2, dtype=torch.float16)

    assert regions.compare_typed("x", half, torch.float16, ones).holds
    assert "float16 where float32" in regions.compare_typed("x", half, torch.float32, ones).problem
    assert regions.compare_typed("x", None, torch.float32, ones).problem
    assert regions.compare_typed("x", -0.0 * half, torch.float16, 0 * ones).holds
    assert regions.compare_typed("x", half, torch.float16, 1.001 * ones, 0.01).holds
    assert not regions.compare_typed("x", half, torch.float16, 1.1 * ones, 0.01).holds


def test_a_region_around_is_no_region_within() -> None:
    """The cache is cleared where a region within ends, and the depth is restored."""
    weight = torch.ones(2, 2, requires_grad=True)
    eye = torch.eye(2)
    with torch.autocast("cpu"):
        before = _state()
        with regions.outside("cpu"):
            assert nesting._type("cpu") == "float32"
            found = []
            for _ in range(2):
                with torch.autocast("cpu"):
                    found.append(torch.mm(eye, weight)[0, 0].item())
                with torch.no_grad():
                    weight.add_(1)
        after = _state()

    assert found == [1.0, 2.0]
    assert after == before


# ---- torch broken from outside, below observe()


#: (operator, fault, families that must trip)
OPERATORS: list[tuple[str, Fault, str]] = [
    ("mm", slightly_larger, "lower_type gradients"),
    ("mm", last_element, "lower_type gradients weight_cache no_grad_cache nesting"),
    ("mm", zeros, "lower_type gradients weight_cache custom_functions recomputation"),
    ("addmm", last_element, "lower_type training"),
    ("bmm", last_element, "lower_type"),
    ("convolution", last_element, "lower_type"),
    ("_prelu_kernel", last_element, "lower_type"),
    ("mse_loss", slightly_larger, "float32 gradients"),
    ("smooth_l1_loss", slightly_smaller, "float32"),
    ("_log_softmax", slightly_larger, "float32"),
    ("avg_pool3d", slightly_larger, "float32"),
    ("reflection_pad2d", last_element, "float32"),
    ("index_copy", last_element, "widest_type"),
    ("cat", last_element, "widest_type not_cast"),
    ("_to_copy", nan, "lower_type gradients weight_cache"),
    ("convolution_backward", last_element, "gradients"),
    ("threshold_backward", zeros, "gradients"),
    ("mse_loss_backward", slightly_larger, "gradients"),
    ("mse_loss_backward", last_element, "gradients"),
    ("relu", last_element, "not_cast gradients"),
    ("cumsum_", slightly_larger, "not_cast"),
    ("addmm_", last_element, "not_cast"),
    ("_amp_foreach_non_finite_check_and_unscale_", slightly_smaller, "scaling skipping training"),
    ("_amp_foreach_non_finite_check_and_unscale_", shifted, "scaler_kernels scaling"),
    ("_amp_update_scale_", slightly_larger, "growth skipping scaler_state scaler_kernels training"),
    ("_fused_sgd_", last_element, "fused_steps"),
    ("_fused_adam_", slightly_larger, "fused_steps"),
    ("_fused_adamw_", shifted, "fused_steps"),
]


@pytest.mark.slow
@corrupted_operators(OPERATORS)
def test_corrupted_operator(operator: str, fault: Fault, families: str) -> None:
    """A wrong kernel trips the checks of its families, without an error."""
    assert_trips(probe, operator, fault, families)


@pytest.mark.parametrize("length", [1, 8, 17, 32, 129])
def test_each_length_is_searched(length: int) -> None:
    """An element that is missed at the end of tensors of one length is seen, and no list has it."""

    def missing(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        func(*args, **kwargs)
        if len(args[0]) == 2 and args[0][1].numel() == length:
            args[1].zero_()

    names = frozenset({"aten::_amp_foreach_non_finite_check_and_unscale_"})
    with Interceptor(names, missing):
        found, _ = run_trials(kernels.scaler_kernels("cpu"), "cpu")

    assert {each.name for each in found if not each.holds} == {"find"}


#: Families that are tried under every other meaning.
FAST: Final = frozenset(
    {
        *("not_cast", "gradients", "weight_cache", "no_grad_cache", "nesting", "custom_functions"),
        *("recomputation", "growth", "scaler_state"),
    }
)

#: Name in `CALLS` and `KERNELS` -> the families that must trip.
MEANINGS: Final = {
    "float64_is_cast": {"not_cast"},
    "cache_never_cleared": {"weight_cache", "training"},
    "cache_always_on": {"weight_cache"},
    "no_grad_is_cached": {"no_grad_cache"},
    "region_never_off": {"nesting", "custom_functions", "recomputation", "weight_cache"},
    "region_outlives_errors": {"nesting", "weight_cache"},
    "decorator_does_nothing": {"nesting"},
    "custom_bwd_does_nothing": {"custom_functions"},
    "custom_fwd_casts_nothing": {"custom_functions"},
    "checkpoint_without_autocast": {"recomputation"},
    "scale_ignored": {"scaling", "training", "growth", "scaler_state"},
    "unscaled_twice": {"scaling"},
    "first_group_unscaled": {"scaling"},
    "answer_lost": {"scaling"},
    "step_never_skipped": {"skipping", "scaling", "training"},
    "state_without_counter": {"scaler_state"},
    "nan_not_found": {"skipping", "scaler_kernels"},
    "last_not_searched": {"skipping", "scaler_kernels", "scaling", "growth", "scaler_state"},
    "grows_late": {"growth", "scaler_state"},
    "never_backs_off": {"skipping", "training", "growth", "scaler_state"},
    "fused_ignores_scale": {"fused_steps"},
    "fused_ignores_inf": {"fused_steps"},
}


def test_a_fault_of_scalers_is_about_checks_of_scalers() -> None:
    """Where torch has none for the device those are skipped, and so is the fault."""
    about = [fault for fault in faults.FAULTS if fault.event is faults._SCALER]
    checks = {f"amp.{check}" for check in probe._SCALERS}

    assert len(about) > 5
    assert {fault.name for fault in about if not set(fault.trips) <= checks} == set()


@contextmanager
def meaning(name: str) -> Iterator[None]:
    """Torch with one call or kernel that does something else."""
    with pytest.MonkeyPatch.context() as patch:
        if name in KERNELS:
            operators, handler = KERNELS[name]
            with Interceptor(frozenset(f"aten::{each}" for each in operators), handler):
                yield
            return
        owner, function, make = CALLS[name]
        patch.setattr(torch, "clear_autocast_cache", torch.clear_autocast_cache)
        patch.setattr(owner, function, make(getattr(owner, function)))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CALLS, *KERNELS])
def test_another_meaning(name: str) -> None:
    """A call that does something else trips the checks that name it, and no other."""
    depth, enabled = _state()[-4], torch.is_autocast_enabled("cpu")
    try:
        with meaning(name):
            found = tripped_families(probe, *sorted(FAST | MEANINGS[name]))
    finally:  # what a region that is never left leaves
        torch.set_autocast_enabled("cpu", enabled)
        torch.clear_autocast_cache()
        while _state()[-4] != depth:
            torch.autocast_decrement_nesting()

    assert found == MEANINGS[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operators", "family"),
    [
        (("bmm",), "lower_type"),
        (("conv_transpose2d",), "lower_type"),
        (("kl_div",), "float32"),
        (("prod",), "float32"),
        (("index_copy",), "widest_type"),
    ],
)
def test_an_operation_out_of_the_table(operators: tuple[str, ...], family: str) -> None:
    """It runs in the type of its operands, which its check sees, and it alone."""
    mixed_precision.not_cast(operators, device="cpu")
    try:
        found = tripped_families(probe, "lower_type", "float32", "widest_type")
    finally:
        mixed_precision._LIBRARIES.pop()._destroy()

    assert found == {family}
    assert tripped_families(probe, family) == set()

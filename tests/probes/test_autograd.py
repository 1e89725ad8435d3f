"""The probe `autograd` passes here, every check can fail, and a broken torch trips its checks."""

import contextlib
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from probes.autograd import bounded, concurrency, exact, probe, trial
from probes.autograd import observation as observing
from probes.autograd.bounded import product_unit
from probes.autograd.expected import EXPECTED
from probes.catalog import AUTOGRAD
from probes.contract import Comparison, Finding
from probes.faults.inject.gradients import lose_in_threads, replace_the_gradient
from probes.kit import capabilities, precision
from probes.kit.facts import LACKING, STOPPED, collect_facts
from probes.kit.gradients import integers
from tests.probes.broken import ATTENTION
from tests.probes.corrupted import Corrupted, nan, of, one_bit, scaled, shifted, swapped, zeros
from tests.probes.verdicts import tripped, tripped_checks

FAMILIES: Final = [check for check in AUTOGRAD.checks if check not in EXPECTED]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small operations are fastest on one thread, especially on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sound() -> probe.Observation:
    """One observation of this image."""
    return probe.observe("cpu")


# ---- sound, and every check can fail


def test_this_image_is_sound(sound: probe.Observation) -> None:
    """Nothing trips and nothing is skipped on the CPU of this image."""
    assert {finding.status for finding in probe.judge(sound)} == {"pass"}


def test_judge_makes_the_checks_of_the_catalogue_in_order(sound: probe.Observation) -> None:
    """Every check comes once, in the catalogue's order, also for an empty observation."""
    empty = probe.Observation(families={}, facts={})

    assert [finding.id for finding in probe.judge(sound)] == list(AUTOGRAD.check_ids)
    assert [finding.id for finding in probe.judge(empty)] == list(AUTOGRAD.check_ids)
    assert {finding.status for finding in probe.judge(empty)} == {"fail"}


def test_a_recording_that_is_older_than_a_check_skips_it(sound: probe.Observation) -> None:
    """Not one that has compared nothing of it."""

    def status(families: dict[str, tuple[Comparison, ...]]) -> str:
        found = probe.judge(sound.model_copy(update={"families": families}))
        return next(each.status for each in found if each.id == "autograd.types")

    older = {name: each for name, each in sound.families.items() if name != "types"}

    assert status(older) == "skip"
    assert status({**older, "types": ()}) == "fail"


@pytest.mark.parametrize("check", FAMILIES)
def test_wrong_numbers_trip_their_check_alone(sound: probe.Observation, check: str) -> None:
    """One wrong element in any one operation of a family trips that family and no other."""
    for place, good in enumerate(sound.families[check]):
        bad = good.model_copy(update={"mismatches": 1, "first_index": (0,), "xor_mask": "0x1"})
        family = (*sound.families[check][:place], bad, *sound.families[check][place + 1 :])
        observation = sound.model_copy(update={"families": {**sound.families, check: family}})

        assert tripped_checks(probe.judge(observation)) == {check}


@pytest.mark.parametrize("check", EXPECTED)
def test_wrong_facts_trip_their_check_alone(sound: probe.Observation, check: str) -> None:
    """Each fact, if wrong or missing, trips only its check."""
    for name, right in EXPECTED[check].items():
        for wrong in ("", None, not right, [0.0, float("nan")], STOPPED):
            if wrong == sound.facts[check][name]:
                continue
            facts = {**sound.facts, check: {**sound.facts[check], name: wrong}}

            assert tripped_checks(probe.judge(sound.model_copy(update={"facts": facts}))) == {check}
        without_fact = {key: value for key, value in sound.facts[check].items() if key != name}
        facts = {**sound.facts, check: without_fact}

        assert tripped_checks(probe.judge(sound.model_copy(update={"facts": facts}))) == {check}


def test_the_error_is_in_the_message(sound: probe.Observation) -> None:
    """A check that an error ended has the error's text, a hint and an action."""
    facts = {**sound.facts, "detach": {STOPPED: "RuntimeError: no kernel"}}
    findings = {f.id: f for f in probe.judge(sound.model_copy(update={"facts": facts}))}

    assert "RuntimeError: no kernel" in findings["autograd.detach"].message
    assert findings["autograd.detach"].hint
    assert findings["autograd.detach"].action == "fix_image"


def test_an_observation_survives_json_and_is_small(sound: probe.Observation) -> None:
    """A stored report can be judged again, and takes less than 20 KiB."""
    text = sound.model_dump_json(exclude_defaults=True)

    assert len(text) < 20 * 1024
    assert not tripped(probe.judge(probe.Observation.model_validate_json(text)))


def test_without_float64_the_rest_is_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    """observe() makes no float64 tensor on a device without float64."""
    cast = torch.Tensor.to

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if torch.float64 in args:
            raise TypeError("this device doesn't support float64")
        return cast(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(observing, "has_dtype", lambda _device, dtype: dtype != torch.float64)
    observation = probe.observe("cpu")

    assert not tripped(probe.judge(observation))
    assert set(observation.without) == {"float64"}


# ---- no false alarm, nothing left behind


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_no_alarm_whatever_the_seed_and_the_default_type(seed: int) -> None:
    """The user's seed, default type and number of threads do not matter."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.manual_seed(seed)
    torch.set_num_threads(1 + seed % 2)
    torch.set_default_dtype(torch.float64 if seed == 1 else torch.float32)
    try:
        assert not tripped(probe.judge(probe.observe("cpu")))
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


def test_nothing_global_changes() -> None:
    """The random stream, modes, defaults and warning filters are as before, and no thread stays."""

    def state() -> list[object]:
        return [
            torch.get_rng_state().tolist(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            list(warnings.filters),
        ]

    before, threads = state(), threading.active_count()
    probe.observe("cpu")

    assert state() == before
    assert threading.active_count() <= threads


def test_each_thread_has_a_stream_where_the_back_end_has_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On an accelerator the work runs on a new stream; the CPU has none."""
    entered: list[str] = []

    @contextlib.contextmanager
    def stream(of: str) -> Iterator[None]:
        entered.append(of)
        yield

    streams = SimpleNamespace(Stream=lambda device: f"a stream of {device}", stream=stream)
    monkeypatch.setattr(torch, "xpu", streams, raising=False)  # torch before 2.3 has none
    with concurrency.own_stream("xpu:1"), concurrency.own_stream("cpu"):
        pass

    assert entered == ["a stream of xpu:1"]


def test_running_out_of_memory_is_raised() -> None:
    """From facts and from threads: other processes may use the memory, so the worker decides."""

    def raise_out_of_memory() -> str:
        raise torch.cuda.OutOfMemoryError("out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        trial.run_in_threads([raise_out_of_memory])
    with pytest.raises(torch.cuda.OutOfMemoryError):
        collect_facts(((name, raise_out_of_memory()) for name in ("fact",)), "cpu")


def test_threads_are_waited_for_however_long_the_device_takes() -> None:
    """A starved pod or busy GPU is late, not wrong: only the supervisor has a deadline."""
    release = threading.Event()
    timer = threading.Timer(0.3, release.set)
    timer.start()

    answers = trial.run_in_threads([lambda: release.wait(60), lambda: True])

    assert answers == [True, True]
    timer.join()


def test_a_thread_that_cannot_start_is_raised_and_leaves_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A limit on processes is a problem of the host, not a wrong gradient."""
    begin, started = threading.Thread.start, threading.active_count()
    left = [True]

    def start(self: threading.Thread) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        begin(self)

    monkeypatch.setattr(threading.Thread, "start", start)

    with pytest.raises(RuntimeError, match="can't start new thread"):
        trial.run_in_threads([lambda: 1, lambda: 2])
    deadline = time.monotonic() + 10
    while threading.active_count() > started and time.monotonic() < deadline:
        os.sched_yield()
    assert threading.active_count() == started


ABSENT: Final = "The operator 'aten::take' is not currently implemented for the MPS device"


def test_an_operation_that_a_back_end_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other operations are judged; on a back-end that has all of them it is a failure."""

    def take(*_: object) -> None:
        raise NotImplementedError(ABSENT)

    monkeypatch.setattr(torch.Tensor, "take", take)
    on_cpu = probe.observe("cpu")
    monkeypatch.setattr(capabilities, "back_end", lambda _device: "mps")
    on_mps = probe.observe("cpu")

    assert tripped_checks(probe.judge(on_cpu)) == {"indexing"}
    assert not tripped_checks(probe.judge(on_mps))
    lacking = [each for each in on_mps.families["indexing"] if each.lacking]
    assert [(each.operation, ABSENT in each.lacking) for each in lacking] == [("take", True)]


def test_a_family_of_which_a_back_end_lacks_all_is_skipped(sound: probe.Observation) -> None:
    """With the reason; a missing type is no problem if other types are right."""
    all_lacking = tuple(
        each.model_copy(update={"elements": 0, "lacking": ABSENT})
        for each in sound.families["indexing"]
    )
    observation = sound.model_copy(update={"families": {**sound.families, "indexing": all_lacking}})
    finding = next(f for f in probe.judge(observation) if f.id == "autograd.indexing")

    assert (finding.status, finding.message) == ("skip", ABSENT)
    part = all_lacking[0].model_copy(update={"operation": "matmul bfloat16"})
    whole = sound.families["products"][0]
    assert trial.merged("matmul", [whole, part]).holds
    assert not trial.merged("matmul", [whole, part]).lacking
    assert trial.merged("matmul", [part, part]).lacking == ABSENT


def test_facts_end_where_a_back_end_lacks_an_operation(sound: probe.Observation) -> None:
    """Those before it are judged; a check without any is skipped."""
    facts = dict(sound.facts["in_place"])
    first_facts = {"version_moves": facts["version_moves"], LACKING: ABSENT}

    def judged(of_in_place: dict[str, Any]) -> Finding:
        all_facts = {**sound.facts, "in_place": of_in_place}
        observation = sound.model_copy(update={"facts": all_facts})
        return next(f for f in probe.judge(observation) if f.id == "autograd.in_place")

    assert judged(first_facts).status == "pass"
    assert judged({**first_facts, "version_moves": 0}).status == "fail"
    assert judged({LACKING: ABSENT}).status == "skip"
    assert judged({STOPPED: "RuntimeError: no kernel"}).status == "fail"


@pytest.mark.parametrize("text", ["CUBLAS_STATUS_NOT_SUPPORTED when calling cublasGemmEx, 16BF"])
def test_bfloat16_products_before_capability_8_are_left_out(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """CuBLAS documents none for a P100 or V100; on an H100 the same error is a failure."""
    multiply = torch.matmul

    def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if a.dtype == torch.bfloat16:
            raise RuntimeError(text)
        return multiply(a, b)

    case = exact.contraction("matmul", "ij,jk->ik", (integers((5, 7)), integers((7, 3))), matmul)
    types = [torch.float32, torch.bfloat16]
    monkeypatch.setattr(capabilities, "back_end", lambda _device: "cuda")
    monkeypatch.setattr(capabilities, "capability", lambda _device: (6, 0))
    old = exact.case_comparison(case, types, "cpu")
    monkeypatch.setattr(capabilities, "capability", lambda _device: (9, 0))
    new = exact.case_comparison(case, types, "cpu")

    assert old.holds
    assert not old.lacking  # float32 was compared
    assert not new.holds


def _add_a_fifth(output: torch.Tensor) -> None:
    output.add_(0.2)


def test_winograd_may_round_on_rocm_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """MIOpen may use it for stride 2; on other back-ends an error of 0.2 is a wrong sum."""
    corrupted = Corrupted("convolution_backward", _add_a_fifth, lambda _, output: output.dim() > 1)
    with corrupted:
        on_cuda = probe.observe("cpu")
        monkeypatch.setattr(exact, "back_end", lambda _device: "hip")
        on_hip = probe.observe("cpu")

    assert "convolutions" in tripped_checks(probe.judge(on_cuda))
    assert "convolutions" not in tripped_checks(probe.judge(on_hip))


def test_errors_within_opencls_table_are_allowed_on_other_back_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error of 16 ulp is too large on a CPU and on CUDA, but allowed on ROCm and XPU."""
    wrong_sigmoid = Corrupted("sigmoid_backward", scaled(1 + 60 * 2.0**-24), of(torch.float32))
    with wrong_sigmoid:
        on_cpu = probe.observe("cpu")
        monkeypatch.setattr(bounded, "back_end", lambda _device: "hip")
        on_hip = probe.observe("cpu")

    assert "functions" in tripped_checks(probe.judge(on_cpu))
    assert "functions" not in tripped_checks(probe.judge(on_hip))


@pytest.mark.parametrize(
    ("variable", "unit"),
    [("NVIDIA_TF32_OVERRIDE=1", 2.0**-10), ("DNNL_DEFAULT_FPMATH_MODE=BF16", 2.0**-7)],
)
def test_a_variable_that_shortens_products_widens_the_bounds(
    monkeypatch: pytest.MonkeyPatch, variable: str, unit: float
) -> None:
    """The library may shorten larger products than the measured one, but never float64."""
    forced = precision.Precision(forced_by=variable)
    monkeypatch.setattr(precision, "read", lambda _device: forced)

    assert product_unit(torch.float32, "cpu") == unit
    assert product_unit(torch.float64, "cpu") == 2.0**-53


# ---- torch broken from outside, below observe()


OPERATIONS: Final[dict[str, tuple[Corrupted, set[str]]]] = {
    "mm scaled in forward and backward alike": (
        Corrupted("mm", scaled(1.001)),
        {"first_backward", "products", "network"},
    ),
    "mm with one bit of one element": (
        Corrupted("mm", one_bit),
        {"first_backward", "products"},
    ),
    "mm zero in the first calls only": (
        Corrupted("mm", zeros, lambda call, _: call < 2),
        {"first_backward"},
    ),
    "mm wrong when large": (
        Corrupted("mm", one_bit, lambda _, output: output.numel() > 10000),
        {"repeated"},
    ),
    "mm wrong in bfloat16": (Corrupted("mm", swapped, of(torch.bfloat16)), {"products"}),
    "mm wrong in float64": (Corrupted("mm", scaled(1 + 1e-9), of(torch.float64)), {"network"}),
    "bmm swaps elements": (Corrupted("bmm", swapped), {"products"}),
    "convolution_backward zero": (
        Corrupted("convolution_backward", zeros),
        {"convolutions"},
    ),
    "convolution_backward shifted by one": (
        Corrupted("convolution_backward", shifted),
        {"convolutions"},
    ),
    "embedding_dense_backward off in the last row": (
        Corrupted("embedding_dense_backward", one_bit),
        {"indexing", "repeated"},
    ),
    "embedding_dense_backward wrong from its third call": (
        Corrupted("embedding_dense_backward", zeros, lambda call, _: call >= 5),
        {"repeated"},
    ),
    "masked_scatter_backward shifted": (
        Corrupted("masked_scatter_backward", shifted),
        {"indexing"},
    ),
    "index_add swaps": (Corrupted("index_add", swapped), {"indexing"}),
    "scatter_add swaps": (Corrupted("scatter_add", swapped), {"indexing"}),
    "index_put wrong": (Corrupted("index_put", one_bit), {"indexing"}),
    "max_pool2d backward shifted": (
        Corrupted("max_pool2d_with_indices_backward", shifted),
        {"orders"},
    ),
    "reflection_pad2d_backward wrong": (
        Corrupted("reflection_pad2d_backward", swapped),
        {"shapes"},
    ),
    "slice_backward shifted": (Corrupted("slice_backward", shifted), {"shapes"}),
    "threshold_backward scaled": (
        Corrupted("threshold_backward", scaled(0.999)),
        {"selections", "forward_mode"},
    ),
    "cumsum wrong": (Corrupted("cumsum", one_bit), {"reductions"}),
    "tanh_backward off by 0.05 %": (
        Corrupted("tanh_backward", scaled(1.0005)),
        {"functions", "network"},
    ),
    "tanh_backward off by 1e-9 in float64": (
        Corrupted("tanh_backward", scaled(1 + 1e-9), of(torch.float64)),
        {"functions", "network"},
    ),
    "tanh off in forward and so in backward": (
        Corrupted("tanh", scaled(1.001)),
        {"functions", "network"},
    ),
    "gelu_backward NaN": (Corrupted("gelu_backward", nan), {"functions"}),
    "softmax backward scaled": (
        Corrupted("_softmax_backward_data", scaled(1.001)),
        {"rows"},
    ),
    "log_softmax backward shifted": (
        Corrupted("_log_softmax_backward_data", shifted),
        {"rows", "network"},
    ),
    "layer norm backward scaled": (
        Corrupted("native_layer_norm_backward", scaled(1.001)),
        {"rows", "network"},
    ),
    "attention backward scaled": (
        Corrupted(f"{ATTENTION}_backward", scaled(0.999)),
        {"rows"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", OPERATIONS)
def test_a_corrupted_operation_is_named(fault: str) -> None:
    """A wrong kernel trips its checks, even if forward and backward are equally wrong."""
    corrupted, checks = OPERATIONS[fault]
    corrupted.calls = 0
    with corrupted:
        observation = probe.observe("cpu")

    assert corrupted.calls > 0
    assert tripped_checks(probe.judge(observation)) >= checks


class Shortened(TorchDispatchMode):
    """Truncates the factors of float32 matrix products to some bits of the fraction."""

    def __init__(self, kept: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mask = -(1 << (23 - kept))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Truncate the factors, then multiply."""
        factors = {"aten::mm": (0, 1), "aten::addmm": (1, 2)}.get(func._schema.name, ())
        shortened = [
            self._short(given) if place in factors else given for place, given in enumerate(args)
        ]
        return func(*shortened, **(kwargs or {}))

    def _short(self, factor: torch.Tensor) -> torch.Tensor:
        if factor.dtype != torch.float32:
            return factor
        return (factor.contiguous().view(torch.int32) & self.mask).view(torch.float32)


@pytest.mark.parametrize(("kept", "unit"), [(23, 2.0**-24), (10, 2.0**-10), (7, 2.0**-7)])
def test_shorter_products_are_not_a_wrong_gradient(kept: int, unit: float) -> None:
    """If settings allow TF32 or bfloat16 in products, the bounds are wider and nothing trips."""
    with Shortened(kept):
        measured = product_unit(torch.float32, "cpu")
        observation = probe.observe("cpu")

    assert measured == unit
    assert not tripped_checks(probe.judge(observation))


def test_products_shorter_than_any_setting_are_wrong() -> None:
    """No number format has 1 bit of fraction: the exact integers differ."""
    with Shortened(1):
        observation = probe.observe("cpu")

    assert tripped_checks(probe.judge(observation)) >= {"first_backward", "products", "network"}


BREAKS: Final[dict[str, tuple[Callable[[pytest.MonkeyPatch], None], set[str]]]] = {}


def breaks(*checks: str) -> Callable[[Callable[[pytest.MonkeyPatch], None]], None]:
    """Register a way to break torch, with the checks that must trip."""

    def register(broken: Callable[[pytest.MonkeyPatch], None]) -> None:
        BREAKS[broken.__name__.lstrip("_")] = (broken, set(checks))

    return register


@breaks("grad_enabled")
def _grad_switched_off_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "is_grad_enabled", lambda: False)


@breaks("detach")
def _detach_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    detach = torch.Tensor.detach
    monkeypatch.setattr(torch.Tensor, "detach", lambda self: detach(self).clone())


@breaks("detach")
def _detach_keeps_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    detach = torch.Tensor.detach
    monkeypatch.setattr(
        torch.Tensor, "detach", lambda self: self * 1 if self.requires_grad else detach(self)
    )


class _NoMode(contextlib.ContextDecorator):
    """A mode that does nothing, as a block and as a decorator."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take what the real one takes."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


@breaks("no_grad")
def _no_grad_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "no_grad", _NoMode)


@breaks("no_grad")
def _no_grad_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.no_grad, "__exit__", lambda *_: None)


@breaks("inference_mode")
def _inference_mode_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "inference_mode", _NoMode)


@breaks("inference_mode")
def _inference_mode_is_only_no_grad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "inference_mode", lambda mode=True: torch.set_grad_enabled(not mode))


@breaks("grad_modes")
def _enable_grad_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "enable_grad", _NoMode)


@breaks("grad_modes")
def _set_grad_enabled_always_enables(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = torch.set_grad_enabled
    monkeypatch.setattr(torch, "set_grad_enabled", lambda _: switch(True))


@breaks("zero_grad")
def _zero_grad_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "zero_grad", lambda self, set_to_none=True: None)


@breaks("zero_grad")
def _zero_grad_forgets_its_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    zero = nn.Module.zero_grad
    monkeypatch.setattr(nn.Module, "zero_grad", lambda self, set_to_none=True: zero(self))


@breaks("accumulation", "scalar_backward", "first_backward", "network")
def _backward_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "backward", lambda self, *_, **__: None)


@breaks("accumulation")
def _backward_replaces_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "backward", replace_the_gradient)


@breaks("second_backward")
def _backward_always_retains(monkeypatch: pytest.MonkeyPatch) -> None:
    backward: Any = torch.Tensor.backward

    def retaining(self: torch.Tensor, gradient: Any = None, **_: Any) -> None:
        backward(self, gradient, retain_graph=True)

    monkeypatch.setattr(torch.Tensor, "backward", retaining)


@breaks("threads")
def _backward_is_wrong_in_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "backward", lose_in_threads)


@breaks("thread_modes")
def _grad_mode_is_shared_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def sharing(self: threading.Thread) -> None:
        recording, run = torch.is_grad_enabled(), self.run

        def inheriting() -> None:
            with torch.set_grad_enabled(recording):
                run()

        self.run = inheriting  # type: ignore[method-assign]
        start(self)

    monkeypatch.setattr(threading.Thread, "start", sharing)


@breaks("grad_function")
def _grad_ignores_create_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    grad = torch.autograd.grad

    def forgetting(*args: Any, **kwargs: Any) -> Any:
        return grad(*args, **{**kwargs, "create_graph": False, "retain_graph": True})

    monkeypatch.setattr(torch.autograd, "grad", forgetting)


@breaks("grad_function")
def _grad_accumulates_too(monkeypatch: pytest.MonkeyPatch) -> None:
    grad = torch.autograd.grad

    def both(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        gradients = grad(outputs, inputs, *args, **kwargs)
        if isinstance(inputs, torch.Tensor) and inputs.is_leaf and gradients[0] is not None:
            inputs.grad = gradients[0].detach()
        return gradients

    monkeypatch.setattr(torch.autograd, "grad", both)


@breaks("grad_function")
def _grad_allows_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    grad = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *args, **more: grad(*args, **{**more, "allow_unused": True})
    )


@breaks("leaves")
def _retain_grad_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "retain_grad", lambda self: None)


@breaks("in_place")
def _in_place_add_hides_from_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    add = torch.Tensor.add_
    monkeypatch.setattr(torch.Tensor, "add_", lambda self, other: add(self.data, other))


@breaks("in_place")
def _in_place_mul_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "mul_", lambda self, other: self * other)


@breaks("custom_function", "recomputation")
def _functions_ignore_their_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.autograd.Function,
        "apply",
        classmethod(lambda cls, *given: cls.forward(_Context(), *given)),
    )


class _Context:
    """A context that keeps nothing."""

    def save_for_backward(self, *_: object) -> None:
        """Keep nothing."""

    def mark_non_differentiable(self, *_: object) -> None:
        """Mark nothing."""


@breaks("saved_tensors")
def _saved_tensors_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.autograd.graph.saved_tensors_hooks, "__enter__", lambda self: None)
    monkeypatch.setattr(torch.autograd.graph.saved_tensors_hooks, "__exit__", lambda *_: None)


class _Handle:
    """The handle of a hook that was not registered."""

    def remove(self) -> None:
        """Remove nothing."""


@breaks("tensor_hooks")
def _tensor_hooks_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "register_hook", lambda self, hook: _Handle())


@breaks("tensor_hooks")
def _tensor_hooks_cannot_change(monkeypatch: pytest.MonkeyPatch) -> None:
    register: Any = torch.Tensor.register_hook

    def watching(self: torch.Tensor, hook: Any) -> Any:
        return register(self, lambda gradient: hook(gradient) and None)

    monkeypatch.setattr(torch.Tensor, "register_hook", watching)


@breaks("tensor_hooks", "module_hooks", "accumulation_hooks")
def _hooks_cannot_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.hooks.RemovableHandle, "remove", lambda self: None)


@breaks("module_hooks")
def _module_hooks_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        nn.Module, "register_full_backward_hook", lambda self, hook, prepend=False: _Handle()
    )


@breaks("accumulation_hooks")
def _accumulation_hooks_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.Tensor, "register_post_accumulate_grad_hook", lambda self, hook: _Handle()
    )


@breaks("leaves", "grad_fn")
def _requires_grad_makes_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = torch.Tensor.requires_grad_

    def asking(self: torch.Tensor) -> torch.Tensor:
        return ask(self).view_as(self)

    monkeypatch.setattr(torch.Tensor, "requires_grad_", asking)


@breaks("forward_mode")
def _tangents_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._VF, "_make_dual", lambda primal, _tangent, level: primal)


@breaks("changing_graph")
def _the_graph_of_the_first_iteration_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    add = torch.Tensor.__add__
    monkeypatch.setattr(
        torch.Tensor,
        "__add__",
        lambda self, other: (
            add(self, other.detach())
            if isinstance(other, torch.Tensor) and other.dim() == 0
            else add(self, other)
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_torch_is_named(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Each way to break torch trips its checks."""
    breaking, checks = BREAKS[broken]
    breaking(monkeypatch)
    observation = probe.observe("cpu")
    monkeypatch.undo()
    torch.set_grad_enabled(True)  # a mode that lied about itself has put its lie back

    assert tripped_checks(probe.judge(observation)) >= checks

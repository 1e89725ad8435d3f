"""The probe `gradcheck` passes here, every check can fail, and a broken torch trips its checks."""

from collections.abc import Callable
from typing import Any, Final

import pytest
import torch

from probes.catalog import GRADCHECK
from probes.gradcheck import differences, probe
from probes.gradcheck import observation as observing
from probes.gradcheck.observation import OF_FLOAT64
from probes.gradcheck.vectors import EXPECTED
from probes.kit.facts import STOPPED
from tests.probes.corrupted import Corrupted, nan, of, scaled, shifted, zeros
from tests.probes.verdicts import tripped, tripped_checks

FAMILIES: Final = [check for check in GRADCHECK.checks if check not in EXPECTED]


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

    assert [finding.id for finding in probe.judge(sound)] == list(GRADCHECK.check_ids)
    assert [finding.id for finding in probe.judge(empty)] == list(GRADCHECK.check_ids)
    assert {finding.status for finding in probe.judge(empty)} == {"fail"}


@pytest.mark.parametrize("check", FAMILIES)
def test_wrong_numbers_trip_their_check_alone(sound: probe.Observation, check: str) -> None:
    """One wrong operation of a family trips that family and no other."""
    for place, good in enumerate(sound.families[check]):
        bad = good.model_copy(update={"mismatches": 1, "first_index": (0,), "xor_mask": "0x1"})
        family = (*sound.families[check][:place], bad, *sound.families[check][place + 1 :])
        observation = sound.model_copy(update={"families": {**sound.families, check: family}})

        assert tripped_checks(probe.judge(observation)) == {check}


@pytest.mark.parametrize("check", EXPECTED)
def test_wrong_facts_trip_their_check_alone(sound: probe.Observation, check: str) -> None:
    """Each fact, if wrong or missing, trips only its check."""
    for name, right in EXPECTED[check].items():
        rest = {key: value for key, value in sound.facts[check].items() if key != name}
        wrongs = [{**rest, name: wrong} for wrong in ("", not right, [0.0], STOPPED)]
        for wrong in (rest, *wrongs):
            facts = {**sound.facts, check: wrong}

            assert tripped_checks(probe.judge(sound.model_copy(update={"facts": facts}))) == {check}


def test_the_error_is_in_the_message(sound: probe.Observation) -> None:
    """A check that an error ended has the error's text, a hint and an action."""
    facts = {**sound.facts, "vector_jacobian": {STOPPED: "RuntimeError: no kernel"}}
    findings = {f.id: f for f in probe.judge(sound.model_copy(update={"facts": facts}))}

    assert "RuntimeError: no kernel" in findings["gradcheck.vector_jacobian"].message
    assert "--probe gradcheck" in findings["gradcheck.vector_jacobian"].hint


def test_an_observation_survives_json(sound: probe.Observation) -> None:
    """A stored report can be judged again."""
    text = sound.model_dump_json(exclude_defaults=True)

    assert not tripped(probe.judge(probe.Observation.model_validate_json(text)))


def test_a_device_without_float64_skips_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finite differences are neither computed nor judged there; the rest is."""
    monkeypatch.setattr(observing, "has_dtype", lambda _device, dtype: dtype != torch.float64)
    monkeypatch.setattr(differences, "SMOOTH", None)  # nothing may go through them
    findings = list(probe.judge(probe.observe("cpu")))

    assert not tripped(findings)
    skips = {f.id.partition(".")[2] for f in findings if f.status == "skip"}
    assert skips == set(OF_FLOAT64)


@pytest.mark.parametrize(
    "switch", [lambda: torch.set_grad_enabled(False), lambda: torch.set_default_dtype(torch.double)]
)
def test_no_alarm_whatever_is_switched(switch: Callable[[], object]) -> None:
    """Gradients switched off are for `autograd` to tell; the default type does not matter."""
    dtype, before = torch.get_default_dtype(), torch.get_rng_state()
    try:
        switch()
        recording = torch.is_grad_enabled()
        observation = probe.observe("cpu")

        assert torch.is_grad_enabled() == recording
    finally:
        torch.set_grad_enabled(True)
        torch.set_default_dtype(dtype)

    assert not tripped(probe.judge(observation))
    assert torch.equal(torch.get_rng_state(), before)


# ---- torch broken from outside, below observe()


OPERATIONS: Final[dict[str, tuple[Corrupted, set[str]]]] = {
    "convolution_backward zero": (
        Corrupted("convolution_backward", zeros),
        {"defaults", "tight"},
    ),
    "tanh_backward off by 0.05 %": (Corrupted("tanh_backward", scaled(1.0005)), {"tight"}),
    "gelu_backward NaN": (Corrupted("gelu_backward", nan), {"defaults", "tight"}),
    "softmax backward scaled": (
        Corrupted("_softmax_backward_data", scaled(1.001)),
        {"tight"},
    ),
    "log_softmax backward shifted": (
        Corrupted("_log_softmax_backward_data", shifted),
        {"defaults", "tight"},
    ),
    "layer norm backward scaled": (
        Corrupted("native_layer_norm_backward", scaled(1.001)),
        {"tight"},
    ),
    "mul off by 0.1 % in float64": (
        Corrupted("mul", scaled(1.001), of(torch.float64)),
        {"second_order"},
    ),
    "sigmoid backward off by 1 %": (
        Corrupted("sigmoid_backward", scaled(1.01)),
        {"defaults", "tight"},
    ),
    "mv off in the forward": (Corrupted("mv", scaled(1.5)), {"batched", "vector_jacobian"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", OPERATIONS)
def test_a_corrupted_operation_is_named(fault: str) -> None:
    """A wrong kernel trips its checks."""
    corrupted, checks = OPERATIONS[fault]
    corrupted.calls = 0
    with corrupted:
        observation = probe.observe("cpu")

    assert corrupted.calls > 0
    assert tripped_checks(probe.judge(observation)) >= checks


BREAKS: Final[dict[str, tuple[Callable[[pytest.MonkeyPatch], None], set[str]]]] = {}


def breaks(*checks: str) -> Callable[[Callable[[pytest.MonkeyPatch], None]], None]:
    """Register a way to break torch, with the checks that must trip."""

    def register(broken: Callable[[pytest.MonkeyPatch], None]) -> None:
        BREAKS[broken.__name__.lstrip("_")] = (broken, set(checks))

    return register


@breaks("vector_refused")
def _backward_sums_a_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    backward: Any = torch.Tensor.backward

    def summing(self: torch.Tensor, gradient: Any = None, **kwargs: Any) -> None:
        backward(self.sum() if gradient is None else self, gradient, **kwargs)

    monkeypatch.setattr(torch.Tensor, "backward", summing)


@breaks("vector_jacobian")
def _backward_ignores_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    backward: Any = torch.Tensor.backward
    monkeypatch.setattr(
        torch.Tensor, "backward", lambda self, gradient=None, **more: backward(self.sum(), **more)
    )


@breaks("batched")
def _batched_grad_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    grad = torch.autograd.grad

    def summed(outputs: Any, inputs: Any, given: Any = None, **more: Any) -> Any:
        if more.pop("is_grads_batched", False):
            return tuple(g.expand(len(given), -1) for g in grad(outputs, inputs, given.sum(0)))
        return grad(outputs, inputs, given, **more)

    monkeypatch.setattr(torch.autograd, "grad", summed)


@breaks("vector_refused")
def _backward_takes_a_gradient_of_any_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    backward: Any = torch.Tensor.backward

    def fitting(self: torch.Tensor, gradient: Any = None, **more: Any) -> None:
        if gradient is not None and gradient.shape != self.shape:
            gradient = gradient.new_ones(self.shape)
        backward(self, gradient, **more)

    monkeypatch.setattr(torch.Tensor, "backward", fitting)


@breaks("vector_jacobian")
def _backward_takes_the_first_root_only(monkeypatch: pytest.MonkeyPatch) -> None:
    backward: Any = torch.autograd.backward

    def first(tensors: Any, given: Any = None, *more: Any, **named: Any) -> None:
        several = isinstance(tensors, list)
        backward(*((tensors[:1], given[:1]) if several else (tensors, given)), *more, **named)

    monkeypatch.setattr(torch.autograd, "backward", first)


@breaks("vector_jacobian")
def _backward_writes_into_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    backward: Any = torch.Tensor.backward

    def consuming(self: torch.Tensor, gradient: Any = None, **more: Any) -> None:
        backward(self, gradient, **more)
        if gradient is not None:
            gradient.zero_()

    monkeypatch.setattr(torch.Tensor, "backward", consuming)


@pytest.mark.slow
@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_torch_is_named(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Each way to break torch trips its checks."""
    breaking, checks = BREAKS[broken]
    breaking(monkeypatch)
    observation = probe.observe("cpu")
    monkeypatch.undo()

    assert tripped_checks(probe.judge(observation)) >= checks

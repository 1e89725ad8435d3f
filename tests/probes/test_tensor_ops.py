"""The probe `tensor_ops`: this image passes, and faults trip their checks."""

import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from probes.catalog import TENSOR_OPS
from probes.contract import Comparison
from probes.kit.trial import Custom, run_trials
from probes.tensor_ops import probe
from probes.tensor_ops.streams import philox_uniform
from tests.probes.verdicts import ids, tripped

PREFIX = "tensor_ops."

#: Checks that do not apply to the CPU.
ELSEWHERE = {"random_philox"}


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


def with_families(
    observation: probe.Observation, **families: tuple[Comparison, ...]
) -> probe.Observation:
    """The observation with other comparisons in some families."""
    return observation.model_copy(update={"families": observation.families | families})


def spoiled(check: str) -> probe.Observation:
    """A sound observation in which one element of the family's last operation is wrong."""
    comparisons = sound().families.get(check, (Comparison(operation="rand", elements=4096),))
    wrong = comparisons[-1].model_copy(
        update={"mismatches": 1, "first_index": (3,), "worst_index": (3,)}
    )
    return with_families(sound(), **{check: (*comparisons[:-1], wrong)})


def on(
    device: str, observation: probe.Observation | None = None, **fields: Any
) -> probe.Observation:
    """The observation as if it came from another device."""
    fields_of_device = {"device": device, "back_end": torch.device(device).type, **fields}
    return (observation or sound()).model_copy(update=fields_of_device)


def gpu(observation: probe.Observation, back_end: str = "cuda", **fields: Any) -> probe.Observation:
    """The observation as if it came from a GPU of that back-end, with right random numbers."""
    philox = (Comparison(operation="rand", elements=4096),)
    return on(
        "cuda:0", with_families(observation, random_philox=philox), back_end=back_end, **fields
    )


def shortened(error: float, operation: str = "mm") -> Comparison:
    """A comparison with that error of a product of 1, and the bound for full precision."""
    return Comparison(
        operation=operation,
        elements=256,
        mismatches=9,
        expected=1.0,
        observed=1.0 + error,
        worst_error=error,
        allowed_error=2.0**-22,
    )


def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, and only what does not apply is skipped."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert {f.id for f in findings if f.status == "skip"} == {PREFIX + name for name in ELSEWHERE}


def test_every_check_in_order() -> None:
    """The catalogue's checks, each once, in its order, for every device."""
    observations = [on("cpu"), on("cuda:0"), on("mps"), on("cpu", families={})]

    for each in observations:
        assert tuple(f.id for f in probe.judge(each)) == TENSOR_OPS.check_ids
    assert ids(probe.judge(sound())) == set(TENSOR_OPS.check_ids)


@pytest.mark.parametrize("check", [name for name in TENSOR_OPS.checks if name not in ELSEWHERE])
def test_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the operation is named."""
    findings = list(probe.judge(spoiled(check)))

    assert tripped(findings) == {PREFIX + check}
    (wrong,) = [f for f in findings if f.status in {"fail", "warn"}]
    assert wrong.status == ("warn" if check == "random_mersenne" else "fail")
    assert spoiled(check).families[check][-1].operation in wrong.message
    assert wrong.hint
    assert wrong.action == "investigate"


def test_philox_is_judged_on_cuda() -> None:
    """The GPU's stream is checked there, and MT19937 is skipped."""
    good = (Comparison(operation="rand", elements=4096),)
    observation = on("cuda:0", with_families(sound(), random_philox=good))
    bad = on("cuda:0", spoiled("random_philox"))

    assert tripped(probe.judge(observation)) == set()
    assert tripped(probe.judge(bad)) == {"tensor_ops.random_philox"}
    statuses = {f.id: f.status for f in probe.judge(observation)}
    assert statuses["tensor_ops.random_mersenne"] == "skip"
    assert statuses["tensor_ops.random_philox"] == "pass"


def test_a_missing_family_fails() -> None:
    """A family without comparisons fails, unless the back-end documents that it lacks all of it."""
    families = {name: each for name, each in sound().families.items() if name != "sorting"}
    missing = sound().model_copy(update={"families": families})
    lacking = missing.model_copy(update={"device": "xpu:0", "not_implemented": ("sorting",)})

    assert tripped(probe.judge(missing)) == {"tensor_ops.sorting"}
    assert tripped(probe.judge(lacking)) == set()


def test_an_observation_of_an_older_release_is_judged_by_what_it_has() -> None:
    """A check that it did not have is skipped; one that it was asked for fails."""
    families = {name: each for name, each in sound().families.items() if name != "double"}
    asked = tuple(name for name in probe.FAMILIES if name != "double")
    older = sound().model_copy(update={"families": families, "asked": asked})
    oldest = older.model_copy(update={"asked": None})

    for each in (older, oldest):
        assert {f.id: f.status for f in probe.judge(each)}["tensor_ops.double"] == "skip"
        assert tripped(probe.judge(each)) == set()


@pytest.mark.parametrize(
    ("device", "status"), [("cpu", "fail"), ("cuda:0", "fail"), ("xpu:0", "warn"), ("mps", "skip")]
)
def test_back_ends_that_must_keep_subnormals(device: str, status: str) -> None:
    """CPU and CUDA must, Metal never does, for others it is unknown."""
    findings = probe.judge(on(device, spoiled("subnormals")))

    assert [f.status for f in findings if f.id == "tensor_ops.subnormals"] == [status]


@pytest.mark.parametrize(
    ("check", "allowed"),
    [("float32_matmul", "matmul_may_shorten"), ("float32_convolution", "convolution_may_shorten")],
)
def test_tf32_is_skipped_only_where_it_is_allowed(check: str, allowed: str) -> None:
    """A setting of torch allows a shortened product; a variable is named in the hint."""
    observation = gpu(with_families(sound(), **{check: (shortened(2.0**-11),)}))
    setting = observation.precision.model_copy(update={allowed: True})
    fields_of_device = observation.precision.model_copy(
        update={"variables": {"NVIDIA_TF32_OVERRIDE": "0"}}
    )
    strict = probe.Limits(float32_products="exact")
    permitted = observation.model_copy(update={"precision": setting})

    assert tripped(probe.judge(observation)) == {PREFIX + check}
    assert tripped(probe.judge(permitted)) == set()
    assert tripped(probe.judge(permitted, strict)) == {PREFIX + check}
    (wrong,) = (
        f
        for f in probe.judge(observation.model_copy(update={"precision": fields_of_device}))
        if f.status == "fail"
    )
    assert wrong.id == PREFIX + check
    assert wrong.hint.endswith("set here: NVIDIA_TF32_OVERRIDE=0")


def test_right_products_pass_whatever_the_setting() -> None:
    """If TF32 is allowed but not used, the check passes and is not skipped."""
    setting = sound().precision.model_copy(update={"matmul_may_shorten": True})
    findings = probe.judge(sound().model_copy(update={"precision": setting}))

    assert {f.status for f in findings if f.id == "tensor_ops.float32_matmul"} == {"pass"}


def test_number_of_operations() -> None:
    """At least 120 different operations are compared, whatever their types and layouts."""
    assert len(probe.operations(sound())) >= 120


def test_observation_is_small_and_survives_json() -> None:
    """At most 34 KiB, and the same findings after a round trip."""
    text = sound().model_dump_json(exclude_defaults=True)
    again = probe.Observation.model_validate_json(text)

    assert len(text) <= 34 * 1024
    assert list(probe.judge(again)) == list(probe.judge(sound()))


def test_nothing_global_changes() -> None:
    """Generators, default type, grad mode and the number of threads stay as they were."""

    def state() -> tuple[Any, ...]:
        return (
            torch.get_rng_state().tolist(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
            np.geterr(),
        )

    before = state()
    probe.observe("cpu")

    assert state() == before


def test_observations_are_equal_for_every_thread_and_seed() -> None:
    """Other seeds, threads and modes do not change the observation."""
    observations: list[probe.Observation] = []
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    try:
        torch.manual_seed(12345)
        torch.set_num_threads(threads + 1)
        with torch.no_grad():
            worker = threading.Thread(target=lambda: observations.append(probe.observe("cpu")))
            worker.start()
            worker.join(60)
    finally:
        torch.set_rng_state(state)
        torch.set_num_threads(threads)

    assert observations == [sound()]


def test_philox_by_its_published_vector() -> None:
    """Philox4x32-10 of counter 0 and key 0 begins with 6627e8d5 (Random123, kat_vectors)."""
    expected = np.float32(0x6627E8D5) * np.float32(2**-32) + np.float32(2**-33)

    assert philox_uniform(0, 1)[0] == expected


def test_out_of_memory_is_raised() -> None:
    """Running out of memory ends the probe; another error is a problem of the operation."""

    def raise_out_of_memory(_device: str) -> Iterator[Comparison]:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def raise_error(_device: str) -> Iterator[Comparison]:
        raise RuntimeError("no kernel image\nis available")

    (comparison,), lacking = run_trials([Custom("mm", raise_error)], "cpu")

    assert comparison.problem == "raised RuntimeError: no kernel image"
    assert lacking == ()
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run_trials([Custom("mm", raise_out_of_memory)], "cpu")


@pytest.mark.parametrize(
    ("device", "text", "lacks"),
    [
        ("cpu", "\"mm\" not implemented for 'Half'", True),
        ("cpu", "\"mm\" not implemented for 'Float'", False),
        ("cuda:0", "\"mm\" not implemented for 'Half'", False),
        ("xpu:0", "Expected a 'cpu' device type for generator but found 'fake'", True),
        ("cuda:0", "Expected a 'cpu' device type for generator but found 'cuda'", False),
        ("mps", "'aten::svd' is not currently implemented for the MPS device", True),
    ],
)
def test_what_a_back_end_may_lack(
    device: str, text: str, *, lacks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPU and CUDA have every operation, except half types on the CPU in older torch."""
    monkeypatch.setattr("probes.kit.trial.synchronize", lambda _device: None)

    def absent(_device: str) -> Iterator[Comparison]:
        raise RuntimeError(text) if "generator" in text else NotImplementedError(text)

    found, lacking = run_trials([Custom("mm", absent)], device)

    assert bool(lacking) is lacks
    assert all(each.startswith("mm: ") and "\n" not in each for each in lacking)
    assert [each.holds for each in found] == ([] if lacks else [False])


def test_equal_may_skip_elements_for_a_tensor_and_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA a tensor with NaN is equal to itself: no check may test that."""
    elementwise = torch.equal
    monkeypatch.setattr(torch, "equal", lambda a, b: a is b or elementwise(a, b))

    comparisons, _ = run_trials(probe.FAMILIES["comparison"]("cpu"), "cpu")

    assert not [each.describe() for each in comparisons if not each.holds]

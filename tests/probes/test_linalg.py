"""The probe `linalg`: this image passes, faults trip their checks, back-ends have their excuses."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch

from probes.catalog import LINALG
from probes.contract import Comparison, Finding
from probes.kit.trial import Custom
from probes.linalg import probe
from tests.probes.corrupt import (
    Corrupt,
    Fault,
    InSingle,
    nan,
    slightly_larger,
    slightly_smaller,
    tripped_families,
    zeros,
)
from tests.probes.verdicts import ids, tripped

NO_BATCHED = "raised RuntimeError: CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `getrf`"


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


def on(device: str, **fields: Any) -> probe.Observation:
    """The observation as if it came from another device."""
    back_end = torch.device(device).type
    return sound().model_copy(update={"device": device, "back_end": back_end, **fields})


def with_family(name: str, *comparisons: Comparison) -> dict[str, Any]:
    """The families of a sound observation with another one in one place."""
    return {"families": {**sound().families, name: comparisons}}


def finding(check: str, observation: probe.Observation, **limits: Any) -> Finding:
    """The finding of one check."""
    found = probe.judge(observation, probe.Limits(**limits))
    return next(each for each in found if each.id == f"linalg.{check}")


def wrong(operation: str, problem: str = "") -> Comparison:
    """A comparison of an operation that raised, or of a wrong element."""
    mismatches = 0 if problem else 1
    return Comparison(operation=operation, elements=9, mismatches=mismatches, problem=problem)


def shortened(error: float) -> Comparison:
    """A comparison with that error of a solution of 1, and the bound for full precision."""
    return Comparison(
        operation="linalg.solve",
        elements=256,
        mismatches=9,
        expected=1.0,
        observed=1.0 + error,
        worst_error=error,
        allowed_error=2.0**-22,
    )


def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, and every check is made."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(LINALG.check_ids)
    assert {each.status for each in findings} == {"pass"}


@pytest.mark.parametrize("check", LINALG.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the operation is named."""
    findings = list(probe.judge(on("cpu", **with_family(check, wrong("linalg.planted")))))

    assert tripped(findings) == {f"linalg.{check}"}
    (failed,) = [each for each in findings if each.status == "fail"]
    assert "linalg.planted" in failed.message
    assert (failed.action, bool(failed.hint)) == ("investigate", True)


#: (operator, fault, family that must trip)
OPERATORS: list[tuple[str, Fault, str]] = [
    ("_linalg_solve_ex", slightly_larger, "solve"),
    ("linalg_inv_ex", zeros, "solve"),
    ("linalg_lu_factor_ex", slightly_larger, "solve"),
    ("_linalg_det", slightly_smaller, "solve"),
    ("_linalg_svd", slightly_smaller, "decompose"),
    ("_linalg_eigh", slightly_larger, "decompose"),
    ("linalg_qr", nan, "decompose"),
    ("linalg_matrix_exp", slightly_larger, "functions"),
    ("linalg_lstsq", slightly_smaller, "functions"),
    ("cholesky_inverse", zeros, "functions"),
    ("_linalg_slogdet", slightly_larger, "functions"),
    ("_cdist_forward", slightly_smaller, "functions"),
    ("linalg_pinv", nan, "functions"),
    ("linalg_solve_triangular", slightly_larger, "gradients"),
    ("linalg_solve_triangular", nan, "gradients"),
    ("linalg_lu_solve", zeros, "gradients"),
]

#: Each operation that the families call with operands in float64.
IN_SINGLE: list[tuple[str, str]] = [
    *((name, "solve") for name in ("_linalg_solve_ex", "linalg_inv_ex", "_linalg_det")),
    *((name, "solve") for name in ("linalg_lu_factor_ex", "linalg_solve_triangular")),
    *((name, "solve") for name in ("linalg_cholesky_ex", "cholesky_solve")),
    *((name, "decompose") for name in ("_linalg_svd", "_linalg_eigh", "linalg_qr")),
    *((name, "functions") for name in ("linalg_matrix_exp", "linalg_lstsq", "cholesky_inverse")),
    *((name, "functions") for name in ("_linalg_slogdet", "_cdist_forward", "linalg_pinv", "mm")),
    *((name, "functions") for name in ("_linalg_svd", "linalg_vector_norm", "trace")),
    *((name, "gradients") for name in ("_linalg_solve_ex", "linalg_inv_ex", "_linalg_det")),
    *((name, "gradients") for name in ("_linalg_slogdet", "linalg_solve_triangular", "bmm")),
    *((name, "gradients") for name in ("linalg_cholesky_ex", "cholesky_solve")),
    *((name, "gradients") for name in ("_linalg_svd", "_linalg_eigh", "linalg_qr")),
    *((name, "gradients") for name in ("linalg_matrix_exp", "linalg_lu_solve", "linalg_pinv")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("operator", "family"), IN_SINGLE)
def test_float64_computed_in_float32_is_seen(operator: str, family: str) -> None:
    """Operands and results are rounded to float32, forward and backward."""
    with InSingle(operator) as broken:
        found = tripped_families(probe, family)

    assert broken.count > 0
    assert found == {family}


def _without_gradient(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given, **options: original(*(each.detach() for each in given), **options)


def _halved_gradient(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(*given: Any, **options: Any) -> Any:
        mixed = (each / 2 + each.detach() / 2 for each in given)
        return original(*mixed, **options)

    return call


@pytest.mark.slow
@pytest.mark.parametrize("change", [_without_gradient, _halved_gradient])
@pytest.mark.parametrize(
    "name",
    [
        *("solve", "solve_triangular", "inv", "det", "slogdet", "cholesky", "lstsq", "pinv", "qr"),
        *("eigh", "svd", "eigvalsh", "svdvals", "matrix_exp"),
    ],
)
def test_a_wrong_gradient_is_seen(
    name: str,
    change: Callable[[Callable[..., Any]], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A right result whose gradient is missing or half."""
    monkeypatch.setattr(torch.linalg, name, change(getattr(torch.linalg, name)))

    assert tripped_families(probe, "gradients") == {"gradients"}


@pytest.mark.parametrize(
    ("operator", "fault", "family"), OPERATORS, ids=[f"{row[0]}-{row[2]}" for row in OPERATORS]
)
def test_corrupted_operator(operator: str, fault: Fault, family: str) -> None:
    """A wrong kernel trips the check of its family, without an error."""
    with Corrupt(operator, fault) as corrupt:
        found = tripped_families(probe, family)

    assert corrupt.count > 0
    assert found == {family}


def test_wrong_only_at_the_first_call() -> None:
    """A decomposition that gives zeros at the first call only, as in a bug of torch."""
    with Corrupt("_linalg_svd", zeros, calls=range(1)):
        assert tripped_families(probe, "decompose") == {"decompose"}


def test_wrong_only_at_a_later_call() -> None:
    """A result that is wrong after some right ones."""
    with Corrupt("_linalg_eigh", zeros, calls=range(5, 6)):
        assert tripped_families(probe, "decompose") == {"decompose"}


def _stale(original: Callable[..., Any]) -> Callable[..., Any]:
    """An inverse that leaves what its output held before."""
    return lambda a, *, out=None: original(a) if out is None else out


def _regularized(original: Callable[..., Any]) -> Callable[..., Any]:
    """A factorization that makes every matrix positive first."""
    return lambda a, **_: original(a @ a.mT + torch.eye(a.shape[-1]))


@pytest.mark.parametrize(
    ("name", "change", "family"),
    [("inv", _stale, "solve"), ("cholesky", _regularized, "decompose")],
)
def test_a_replaced_call(
    name: str,
    change: Callable[[Callable[..., Any]], Any],
    family: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call with another meaning trips the check of its family."""
    monkeypatch.setattr(torch.linalg, name, change(getattr(torch.linalg, name)))

    assert tripped_families(probe, family) == {family}


def test_it_runs_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the setting, which is recorded as it was and restored."""
    settings: list[str] = []

    def body(_device: str) -> Iterator[Comparison]:
        settings.append(torch.get_float32_matmul_precision())
        yield Comparison(operation="mm", elements=1)

    monkeypatch.setattr(probe, "FAMILIES", {"solve": lambda _device: [Custom("mm", body)]})
    torch.set_float32_matmul_precision("medium")
    try:
        observed = probe.observe("cpu")
        after = torch.get_float32_matmul_precision()
    finally:
        torch.set_float32_matmul_precision("highest")

    assert settings == ["highest"]
    assert (observed.precision.matmul, after) == ("medium", "medium")


@pytest.mark.parametrize(
    ("forced", "error", "status"),
    [
        ("NVIDIA_TF32_OVERRIDE=1", 2.0**-11, "skip"),
        ("NVIDIA_TF32_OVERRIDE=1", 2.0**-4, "fail"),
        ("NVIDIA_TF32_OVERRIDE=1", math.inf, "fail"),
        ("", 2.0**-11, "fail"),
    ],
)
def test_linear_algebra_under_a_forced_tf32(forced: str, error: float, status: str) -> None:
    """Its bounds need full precision: torch's switch is turned off, but a variable cannot be."""
    setting = sound().precision.model_copy(update={"forced_by": forced})
    comparison = shortened(error)
    observation = on("cuda:0", **with_family("solve", comparison), precision=setting)

    assert finding("solve", observation).status == status
    assert finding("solve", observation, float32_products="exact").status == "fail"


@pytest.mark.parametrize(
    ("capability", "problem", "status"),
    [
        ((12, 0), NO_BATCHED, "warn"),
        ((12, 1), NO_BATCHED, "warn"),
        ((9, 0), NO_BATCHED, "fail"),
        (None, NO_BATCHED, "fail"),
        ((12, 0), "", "fail"),
        ((12, 0), "raised RuntimeError: CUDA error: an illegal memory access", "fail"),
    ],
)
def test_batched_solvers_that_consumer_blackwell_lacks(
    capability: tuple[int, int] | None, problem: str, status: str
) -> None:
    """On other GPUs the same error is a failure."""
    solved = (wrong("linalg.inv", problem),)
    observation = on("cuda:0", **with_family("solve", *solved), capability=capability)

    assert finding("solve", observation).status == status


def test_the_image_comes_before_the_gpu_in_linear_algebra() -> None:
    """A rocSOLVER that loses orthogonality is not a broken GPU: the hint starts with the image."""
    changed = with_family("decompose", wrong("linalg.eigh"))
    observation = on("cuda:0", **{**changed, "back_end": "hip"})

    assert finding("decompose", observation).hint.startswith("the image's own library comes first")
    assert finding("decompose", observation).action == "investigate"


@pytest.mark.parametrize(("check", "status"), [("solve", "warn"), ("decompose", "fail")])
def test_metal_raises_no_error_for_a_singular_matrix(check: str, status: str) -> None:
    """Before torch 2.10; decompositions are right there or wrong."""
    assert finding(check, on("mps", **with_family(check, wrong("x")))).status == status

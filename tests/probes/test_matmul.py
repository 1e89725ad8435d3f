"""The probe `matmul`: this image passes, faults trip their checks, what a device lacks is left out.

What a GPU alone has (two libraries, shortened sums, float32 results) is run on the CPU as well: by
fakes that record what is set, and by kernels that are registered for the CPU.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

import numpy as np
import pytest
import torch

from probes.catalog import MATMUL
from probes.contract import BITS, Comparison
from probes.faults.inject.patterns import one_bit, stale, swallowed
from probes.kit import narrow_products, precision, second_read
from probes.kit.precision import Precision
from probes.kit.trial import LeftOut, run_trials
from probes.matmul import adding, factors, libraries, narrow, probe, reductions, shapes, special
from tests.probes.corrupt import (
    Corrupt,
    Fault,
    assert_trips,
    corrupted_operators,
    lowest_bit,
    nan,
    shifted,
    slightly_larger,
    swapped,
    tripped_families,
    zeros,
)
from tests.probes.verdicts import ids, tripped, tripped_alone

HALF_RESULTS = hasattr(torch.ops.aten.mm, "dtype")


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


def with_wrong(check: str, **fields: Any) -> probe.Observation:
    """A sound observation with one wrong element in a family."""
    wrong = Comparison(operation="planted", elements=9, mismatches=1)
    families = {**sound().families, check: (wrong,)}
    absent = tuple(name for name in sound().not_implemented if name != check)
    return sound().model_copy(update={"families": families, "not_implemented": absent, **fields})


def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, every check is made; it has no result in another type."""
    findings = {each.id: each for each in probe.judge(sound())}

    assert tripped(findings.values()) == set()
    assert ids(findings.values()) == set(MATMUL.check_ids)
    skipped = {name for name, each in findings.items() if each.status == "skip"}
    assert skipped <= {"matmul.out_dtype", "matmul.float8"}
    assert "out_dtype" in findings["matmul.out_dtype"].message
    assert findings["matmul.float32"].message == ""


@pytest.mark.parametrize("check", MATMUL.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the operation is named."""
    tripped_alone(probe.judge(with_wrong(check)), f"matmul.{check}")


def stale_output() -> Fault:
    """Leave what the call before returned, of the same shape and type."""
    return stale()


def half_only(out: torch.Tensor) -> None:
    """Flip the lowest bit of the last element in float16."""
    if out.dtype == torch.float16:
        lowest_bit(out)


def another(out: torch.Tensor) -> None:
    """Add one to the last element."""
    out.reshape(-1)[-1:] += 1


#: (operator, fault, families that must trip)
OPERATORS: Final[list[tuple[str, Fault, str]]] = [
    ("mm", lowest_bit, "shapes"),
    ("mm", half_only, "shapes"),
    ("mm", shifted, "many_terms"),
    ("mm", nan, "layouts"),
    ("mv", slightly_larger, "shapes"),
    ("dot", lowest_bit, "shapes"),
    ("bmm", swapped, "batches"),
    ("bmm", zeros, "not_finite"),
    ("addmm", zeros, "added"),
    ("baddbmm", lowest_bit, "added"),
    ("addbmm", slightly_larger, "added"),
    ("addmv", nan, "added"),
    ("addmm_", lowest_bit, "added"),
    ("mm", swallowed, "not_finite"),
    ("addmm", swallowed, "not_finite"),
    ("addmm", lowest_bit, "float32"),
    ("_int_mm", another, "int8"),
    ("_int_mm", zeros, "int8"),
    ("_scaled_mm", one_bit, "float8"),
    ("_scaled_mm", nan, "float8"),
]


@corrupted_operators(OPERATORS)
def test_corrupted_operator(operator: str, fault: Fault, families: str) -> None:
    """A wrong kernel trips the check of its family, without an error."""
    assert_trips(probe, operator, fault, families)


@pytest.mark.parametrize(("operator", "family"), [("mm", "layouts"), ("bmm", "batches")])
def test_the_result_of_the_call_before_is_seen(operator: str, family: str) -> None:
    """Whatever the layout: each call has another result than the one before."""
    with Corrupt(operator, stale_output()) as corrupt:
        assert tripped_families(probe, family) == {family}

    assert corrupt.count > 2


def _by_rows(original: Callable[..., Any]) -> Callable[..., Any]:
    """A product that reads what is stored by columns as rows."""

    def rows(x: torch.Tensor) -> torch.Tensor:
        turned = not x.is_contiguous() and x.mT.is_contiguous()
        return x.mT.reshape(x.shape) if turned else x

    return lambda a, b, **options: original(rows(a), rows(b), **options)


def _beyond(original: Callable[..., Any]) -> Callable[..., Any]:
    """A product that writes one element past the end of a row."""

    def call(a: torch.Tensor, b: torch.Tensor, *, out: Any = None) -> Any:
        found = original(a, b) if out is None else original(a, b, out=out)
        if out is not None and out.stride(0) > out.shape[1]:
            torch.as_strided(out, (1,), (1,), out.storage_offset() + out.shape[1]).fill_(3)
        return found

    return call


def _without(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **options: original(
            *given, **{key: value for key, value in options.items() if key != name}
        )

    return make


def _multiplied(original: Callable[..., Any]) -> Callable[..., Any]:
    """A `beta` of 0 that multiplies."""

    def call(addend: torch.Tensor, *given: Any, **options: Any) -> Any:
        found = original(addend, *given, **options)
        return found.add_(addend * 0) if options.get("beta") == 0 else found

    return call


def _unsigned(original: Callable[..., Any]) -> Callable[..., Any]:
    """The first operand of int8 taken for uint8."""

    def call(a: torch.Tensor, b: torch.Tensor, **options: Any) -> Any:
        found = original(a, b, **options)
        return found.add_((256 * (a < 0).int()) @ b.int())

    return call


def _unscaled(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(*given: Any, **options: Any) -> Any:
        ones = {name: torch.ones_like(options[name]) for name in ("scale_a", "scale_b")}
        return original(*given, **{**options, **ones})

    return call


def _in_half(original: Callable[..., Any]) -> Callable[..., Any]:
    """A result that went through bfloat16, in the type that was asked for."""
    return lambda *given, **options: original(*given, **options).bfloat16().to(options["out_dtype"])


def _in_another(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given, **options: original(*given, **{**options, "out_dtype": torch.float16})


@pytest.mark.parametrize(
    ("name", "change", "family"),
    [
        ("mm", _by_rows, "layouts"),
        ("mm", _beyond, "layouts"),
        ("bmm", _by_rows, "batches"),
        ("addmm", _without("alpha"), "added"),
        ("addmm", _without("beta"), "added"),
        ("addmm", _multiplied, "added"),
        ("baddbmm", _without("beta"), "added"),
        ("baddbmm", _multiplied, "added"),
        ("addbmm", _multiplied, "added"),
        ("addmv", _multiplied, "added"),
        ("_int_mm", _unsigned, "int8"),
        ("_scaled_mm", _unscaled, "float8"),
        ("_scaled_mm", _in_half, "float8"),
        ("_scaled_mm", _in_another, "float8"),
    ],
)
def test_a_replaced_call(
    name: str,
    change: Callable[[Callable[..., Any]], Any],
    family: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call with another meaning trips the check of its family."""
    monkeypatch.setattr(torch, name, change(getattr(torch, name)))

    assert tripped_families(probe, family) == {family}


@pytest.mark.parametrize("dtype", factors.SPANS)
@pytest.mark.parametrize("size", [(33, 17, 1), (17, 4097, 33), (64, 40000, 8)])
def test_no_partial_sum_leaves_the_type(dtype: torch.dtype, size: tuple[int, int, int]) -> None:
    """The magnitudes of all terms add up to no more than the type holds exactly."""
    span = factors.SPANS[dtype]
    each = factors.factors(*size, span)

    assert (np.abs(each.a) @ np.abs(each.b)).max() <= span.limit
    assert np.abs(each.product).max() > 0
    whole = {torch.float64: 2**53, torch.float32: 2**24, torch.float16: 2**11, torch.bfloat16: 256}
    assert span.limit <= whole[dtype]
    kept = torch.from_numpy(each.product).to(dtype).double().numpy()
    np.testing.assert_array_equal(kept, each.product)
    if dtype == torch.float32:  # TF32 holds 11 bits
        assert span.largest < 2**11


def test_a_wrong_result_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared is the copy that can be made once more; on the CPU there is none."""
    found = torch.tensor([[1.0, -0.0], [3.0, 5.0]], dtype=torch.bfloat16)
    copies: list[Any] = []

    def copied(tensor: torch.Tensor, read: Any) -> Any:
        copies.append(read(tensor))
        return copies[-1]

    monkeypatch.setattr(factors, "copied", copied)
    monkeypatch.setattr(second_read, "again", lambda array: array if array is copies[0] else None)
    right = np.array([[1.0, 0.0], [3.0, 4.0]])
    compared = factors.same("mm", found, right, torch.bfloat16)

    assert compared.mismatches == 1
    assert compared.pattern is not None
    assert compared.pattern.second_read == "same"
    assert isinstance(factors._on_host(torch.tensor(-0.0)), np.ndarray)


def test_every_term_takes_part() -> None:
    """Where most elements of a column are 0, another column has others."""
    each = factors.factors(4, 5000, 40, factors.SPANS[torch.bfloat16])

    assert (each.b != 0).any(1).mean() > 0.3
    assert (each.b != 0).any(1)[-200:].any()


def test_an_operand_of_less_than_24_bits_is_no_test_of_float32() -> None:
    """Every element of one factor has its lowest bit set, and TF32 would drop it."""
    a, b, right = special._chosen(31, 17, 23, 44)

    assert (a % 2 == 1).all()
    assert np.abs(a).max() > 2**23
    assert ((b != 0).sum(0) == 1).all()
    np.testing.assert_array_equal(right.astype(np.float32).astype(np.float64), right)


def test_what_is_not_finite_by_its_definition() -> None:
    """The reference is the sum of all terms, one after another."""
    with np.errstate(all="ignore"):
        each = special.poisoned_factors(factors.SPANS[torch.float32], (9, 24, 16))
        right = (each.a[:, :, None] * each.b[None]).sum(1)

    np.testing.assert_array_equal(each.product, right)
    assert np.isnan(each.product[5]).all()
    assert np.isinf(each.product).any()


@pytest.mark.parametrize(
    ("shortens", "text"),
    [(True, "dropped"), (False, "kept"), (None, "")],
)
def test_tf32_that_is_allowed_is_told(shortens: Any, text: str) -> None:
    """It is no fault, whether bits are dropped or not."""
    observation = sound().model_copy(update={"tf32_shortens": shortens})
    (finding,) = [each for each in probe.judge(observation) if each.id == "matmul.float32"]

    assert finding.status == "pass"
    assert text in finding.message


def test_a_forced_tf32_is_no_fault() -> None:
    """A variable that acts below torch's switches."""
    setting = sound().precision.model_copy(update={"forced_by": "NVIDIA_TF32_OVERRIDE=1"})
    (finding,) = [
        each
        for each in probe.judge(with_wrong("float32", precision=setting))
        if each.id == "matmul.float32"
    ]

    assert finding.status == "skip"
    assert tripped(probe.judge(with_wrong("shapes", precision=setting))) == {"matmul.shapes"}


def test_float32_is_tried_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is set, and the setting is restored."""
    original, in_force = factors.into, set[str]()

    def watched(*given: Any, **options: Any) -> torch.Tensor:
        in_force.add(torch.get_float32_matmul_precision())
        return original(*given, **options)

    monkeypatch.setattr(special, "into", watched)
    torch.set_float32_matmul_precision("medium")
    try:
        assert tripped_families(probe, "float32") == set()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert in_force == {"highest"}


class _Preferred:
    """Stands for torch's choice of a library, and records it."""

    def __init__(self, has: tuple[str, ...] = ("Cublas", "Cublaslt")) -> None:
        self.has, self.now, self.set = has, "Cublas", list[str]()

    def __call__(self, library: Any = None) -> str:
        if library is not None:
            name = str(library).rpartition(".")[2].capitalize()
            self.set.append(name)
            if name not in self.has:
                raise RuntimeError(f"Cannot set preferred backend to {name}")
            self.now = name
        return f"_BlasBackend.{self.now}"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> _Preferred:
    """The CPU is taken for a GPU of CUDA by what chooses libraries and settings."""
    preferred = _Preferred()
    for module in (libraries, reductions, shapes, special):
        monkeypatch.setattr(module, "back_end", lambda _: "cuda")
    monkeypatch.setattr(torch.backends.cuda, "preferred_blas_library", preferred, raising=False)
    return preferred


@pytest.mark.parametrize("family", ["shapes", "layouts", "many_terms", "batches", "added"])
def test_both_libraries_are_tried(family: str, cuda: _Preferred) -> None:
    """Under names of their own, so that each is proven apart; the choice is restored."""
    comparisons = {each.operation for each in _compared(family)}

    assert {f"{name} by cublaslt" for name in comparisons if " " not in name} <= {
        *comparisons,
        "dot by cublaslt",
    }
    assert any(name.endswith(" by cublaslt") for name in comparisons)
    assert cuda.now == "Cublas"
    assert "Cublaslt" in cuda.set


def _compared(family: str) -> tuple[Comparison, ...]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "FAMILIES", {family: probe.FAMILIES[family]})
        return probe.observe("cpu").families[family]


def test_one_library_that_is_wrong_is_named(
    cuda: _Preferred, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one stays right."""
    original = torch.mm

    def mm(*given: Any, **options: Any) -> torch.Tensor:
        found = original(*given, **options)
        return found.mul_(2) if cuda.now == "Cublaslt" else found

    monkeypatch.setattr(torch, "mm", mm)
    wrong = {each.operation.partition(" (")[0] for each in _compared("layouts") if not each.holds}

    assert wrong == {"mm by cublaslt"}


def test_a_library_that_is_not_there_is_left_out(cuda: _Preferred) -> None:
    """With torch's own words."""
    cuda.has = ("Cublas",)
    with (
        pytest.raises(LeftOut, match="Cannot set preferred backend"),
        libraries.preferred("cublaslt"),
    ):
        pass

    assert cuda.now == "Cublas"


@pytest.mark.usefixtures("cuda")
def test_shortened_sums_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the setting is restored, in both of its parts."""
    switches: Any = torch.backends.cuda.matmul
    names = list(reductions._SWITCHES.values())
    before = [getattr(switches, name) for name in names]
    seen: list[tuple[bool, ...]] = []
    original = torch.mm

    def mm(*given: Any, **options: Any) -> torch.Tensor:
        seen.append(tuple(getattr(switches, name) for name in names))
        return original(*given, **options)

    monkeypatch.setattr(torch, "mm", mm)
    _compared("many_terms")

    assert {values[0] for values in seen} == {values[1] for values in seen} == {True, False}
    assert [getattr(switches, name) for name in names] == before


@pytest.mark.usefixtures("cuda")
def test_whether_tf32_drops_bits_is_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU keeps them here; a product that rounds its operands drops them."""
    assert special.tf32_shortens("cpu") is False
    assert torch.get_float32_matmul_precision() == "highest"
    monkeypatch.setattr(torch, "mm", lambda a, b: a.bfloat16().float() @ b.bfloat16().float())

    assert special.tf32_shortens("cpu") is True


@pytest.fixture
def half_results() -> Iterator[None]:
    """Kernels for results of half types in float32 on the CPU."""
    if not HALF_RESULTS:
        pytest.skip("torch takes out_dtype from version 2.8 on")
    library = torch.library.Library("aten", "IMPL")
    library.impl("mm.dtype", lambda a, b, kind: a.to(kind) @ b.to(kind), "CPU")
    library.impl("bmm.dtype", lambda a, b, kind: a.to(kind) @ b.to(kind), "CPU")
    library.impl("addmm.dtype", lambda c, a, b, kind, **_: c + a.to(kind) @ b.to(kind), "CPU")
    yield
    library._destroy()


@pytest.mark.usefixtures("half_results")
@pytest.mark.parametrize(
    ("name", "change", "trips"),
    [
        ("mm", lambda original: original, set()),
        ("mm", _in_half, {"out_dtype"}),
        ("bmm", _in_half, {"out_dtype"}),
        ("addmm", _in_half, {"out_dtype"}),
        ("mm", _without("out_dtype"), {"out_dtype"}),
        ("addmm", _without("out_dtype"), {"out_dtype"}),
    ],
)
def test_results_of_half_types_in_float32(
    name: str, change: Any, trips: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums that no half type holds are not rounded on their way."""
    monkeypatch.setattr(torch, name, change(getattr(torch, name)))

    assert tripped_families(probe, "out_dtype") == trips


@pytest.mark.parametrize(
    ("compute", "call", "text"),
    [
        ((7, 0), narrow._int8, "int8 products need compute capability 7.5, this is 7.0"),
        ((8, 0), narrow._float8, "float8 products need compute capability 8.9, this is 8.0"),
    ],
)
def test_what_a_gpu_lacks_is_left_out(
    compute: tuple[int, int],
    call: Callable[[str], Iterator[Comparison]],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the reason."""
    monkeypatch.setattr(narrow_products, "capability", lambda _: compute)
    with pytest.raises(LeftOut, match=text):
        list(call("cpu"))


@pytest.mark.parametrize(
    ("kind", "call", "name", "error", "left_out"),
    [
        ("cuda", narrow._int8, "_int_mm", "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED", True),
        ("cuda", narrow._int8, "_int_mm", "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED", False),
        ("cuda", narrow._float8, "_scaled_mm", "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED", False),
        ("hip", narrow._float8, "_scaled_mm", "only supported for gfx950", True),
        ("cpu", narrow._int8, "_int_mm", "CUBLAS_STATUS_NOT_SUPPORTED", False),
    ],
)
def test_what_a_library_refuses(
    kind: str,
    call: Callable[[str], Iterator[Comparison]],
    name: str,
    error: str,
    left_out: bool,  # noqa: FBT001 - a column of the table
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of int8 cuBLAS tells what it has, of float8 torch; AMD has float8 on some architectures."""

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError(error)

    monkeypatch.setattr(narrow_products, "back_end", lambda _: kind)
    monkeypatch.setattr(torch, name, refuse)
    with pytest.raises(LeftOut if left_out else RuntimeError):
        list(call("cpu"))


def test_a_torch_without_a_function_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, where float8 products came late."""
    monkeypatch.setattr(narrow_products, "has_kernel", lambda *_: False)
    with pytest.raises(LeftOut, match="this torch has no _scaled_mm on the CPU"):
        list(narrow._float8("cpu"))


@pytest.mark.parametrize(
    ("device", "free", "terms"),
    [("cpu", 2**40, 4096), ("cuda:0", None, 4096), ("cuda:0", 2**28, 4096), ("xpu", 2**30, 65536)],
)
def test_the_largest_operands_need_memory(
    device: str, free: int | None, terms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is not known to be there, sums are shorter."""
    monkeypatch.setattr(shapes, "free_bytes", lambda _: free)

    assert (shapes._MANY_WITH_ROOM if shapes._has_room(device) else shapes._MANY) == terms


def test_wrong_bits_fail_on_any_hardware() -> None:
    """Products of integers are promised by arithmetic; float8 is not."""
    assert MATMUL.certain["shapes"] == BITS
    assert set(MATMUL.certain) == {
        *("shapes", "layouts", "many_terms", "batches", "added", "int8"),
    }


#: Judges some families in a process of its own; prints what failed, and why.
JUDGED: Final = """
import sys, torch
from probes.kit import families
from probes.matmul import probe
chosen = {name: probe.FAMILIES[name] for name in sys.argv[1].split()}
exec(sys.argv[2])
for name, found in families.observe(chosen, "cpu").families.items():
    print(*(each.describe() for each in found if not each.holds))
"""


def complaints(names: str, setting: str = "", **environment: str) -> str:
    """What families complain of under a user's setting and variables."""
    run = subprocess.run(
        [sys.executable, "-c", JUDGED, names, setting],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return run.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["SSE41", "AVX2", "AVX512_CORE"])
def test_a_cpu_without_vnni_is_no_fault(isa: str) -> None:
    """Int8 saturates there, as oneDNN documents, and it has no products of float8."""
    assert complaints("int8 float8", ONEDNN_MAX_CPU_ISA=isa) == ""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["high", "medium"])
def test_shortened_float32_is_no_fault(precision: str) -> None:
    """Operands are short; where oneDNN drops beta it is not asked for."""
    setting = f"torch.set_float32_matmul_precision('{precision}')"

    assert complaints("shapes added float32", setting) == ""


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"CUBLAS_EMULATE_DOUBLE_PRECISION": "1"}, ""),
        ({"CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT": "24"}, ""),
        (
            {
                "CUBLAS_EMULATE_DOUBLE_PRECISION": "1",
                "CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT": "24",
            },
            (
                "float64 is shortened by CUBLAS_EMULATE_DOUBLE_PRECISION=1, "
                "CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT=24"
            ),
        ),
        (
            {
                "CUBLAS_EMULATE_DOUBLE_PRECISION": "1",
                "CUBLAS_FIXEDPOINT_EMULATION_MANTISSA_BIT_COUNT": "55",
            },
            "",
        ),
    ],
)
def test_float64_that_a_user_has_shortened_is_left_out(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], why: str
) -> None:
    """By cuBLAS, which computes in fixed point of as many bits: other types are tried."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(precision, "back_end", lambda _: "cuda")
    found, lacking = run_trials(special.not_finite("cpu"), "cpu")

    assert all(each.holds for each in found)
    assert [each.partition(": ")[2] for each in lacking] == ([why] if why else [])


def test_full_float32_applies_beta_without_a_product() -> None:
    """What is left out for shortened products is tried where they are not."""
    assert not adding._drops_beta(torch.float32, "cpu")
    assert adding._drops_beta(torch.bfloat16, "cpu")
    assert not adding._drops_beta(torch.float64, "cpu")


@pytest.mark.usefixtures("half_results")
def test_sums_in_float16_have_no_result_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's switch, and cuBLAS has no such product: float16 is left out, bfloat16 is not."""
    monkeypatch.setattr(narrow, "read", lambda _: Precision(half_sums_may_shorten=True))
    found = [run_trials([each], "cpu") for each in narrow.out_dtype("cpu")]

    assert [bool(compared) for compared, _ in found] == [False, True]
    assert "sums in float16" in found[0][1][0]

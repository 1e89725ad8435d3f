"""tensor_ops on devices that are not here: what each promises passes, and a little more does not.

A back-end is simulated on the CPU: its name, its capability, and what its library answers.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from probes.contract import Comparison, Finding
from probes.kit import capabilities, convolutions, functions, precision
from probes.kit.case import Case
from probes.kit.draws import SEED
from probes.kit.trial import Custom, refused, run_trials
from probes.tensor_ops import elementwise, probe, streams
from tests.probes.test_tensor_ops import gpu, on, shortened, sound, with_families
from tests.probes.test_tensor_ops_breaks import tripped_checks
from tests.probes.verdicts import tripped

F32 = np.float32
Array = npt.NDArray[Any]

NO_BFLOAT16 = "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx(CUDA_R_16BF)`"
NO_LAUNCH = "raised RuntimeError: HIP error: invalid configuration argument"


def finding(check: str, observation: probe.Observation, **limits: Any) -> Finding:
    """The finding of one check."""
    found = probe.judge(observation, probe.Limits(**limits))
    return next(each for each in found if each.id == f"tensor_ops.{check}")


def wrong(operation: str, problem: str = "") -> Comparison:
    """A comparison of an operation that raised, or of a wrong element."""
    mismatches = 0 if problem else 1
    return Comparison(operation=operation, elements=9, mismatches=mismatches, problem=problem)


def failing(family: str, device: str = "cpu") -> list[str]:
    """The wrong operations of a family on this machine."""
    comparisons, _ = run_trials(probe.FAMILIES[family](device), device)
    return [each.operation.partition(" (")[0] for each in comparisons if not each.holds]


# ---- float32 functions: bounds of the CPU and of ROCm


def fused(a: Array, b: Array | float, c: Array | float) -> Array:
    """A product and a sum rounded once, in float32."""
    exact = np.asarray(a, np.float64) * np.asarray(b, np.float64) + np.asarray(c, np.float64)
    return np.asarray(exact, F32)


def erf_of_vectors(x: Array, first: float = 0.254829592) -> Array:
    """Abramowitz and Stegun 7.1.26 in float32, step by step as ATen's vector classes take them."""
    t = F32(1) / fused(np.abs(x), F32(0.3275911), 1)
    sum_ = fused(t, F32(1.061405429), F32(-1.453152027))
    for coefficient in (1.421413741, -0.284496736, first):
        sum_ = fused(sum_, t, F32(coefficient))
    power = np.exp(-(x * x).astype(np.float64)).astype(F32)
    sign = np.where(np.signbit(x), -1, 1).astype(F32)
    answer: Array = sign * fused(-power * t, sum_, 1)
    return answer


def tanh_of_vectors(x: Array, ulps: int = 2) -> Array:
    """(exp(2x) - 1) / (exp(2x) + 1) in float32, as on SVE, from an exponential some ulp off."""
    power = np.exp(2 * np.clip(x, -10, 10).astype(np.float64)).astype(F32)
    power += F32(ulps) * np.spacing(power)
    return np.asarray((power - F32(1)) / (power + F32(1)))


def in_float32(function: Callable[[Array], Array], original: Any) -> Any:
    """A replacement for torch's call with another implementation for float32."""

    def call(x: torch.Tensor, **options: Any) -> torch.Tensor:
        if x.dtype != torch.float32:
            return original(x, **options)  # type: ignore[no-any-return]
        made = torch.from_numpy(function(x.contiguous().numpy()))
        return options["out"].copy_(made) if options else made

    return call


def test_the_polynomial_of_vector_code_is_right_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """NEON builds, and x86 without MKL, have an erf with an absolute error bound."""
    monkeypatch.setattr(torch, "erf", in_float32(erf_of_vectors, torch.erf))

    assert failing("elementwise") == []
    assert failing("special_values") == []


def test_a_wrong_polynomial_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """One coefficient is wrong by a millionth."""

    def wrong_erf(x: Array) -> Array:
        return erf_of_vectors(x, 0.254829592 + 1e-6)

    monkeypatch.setattr(torch, "erf", in_float32(wrong_erf, torch.erf))

    assert failing("elementwise") == ["erf"]


@pytest.mark.parametrize(("ulps", "right"), [(2, True), (8, False)])
def test_tanh_of_arms_vectors(ulps: int, *, right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On SVE it uses an exponential with an error of at most 2 ulp."""

    def tanh(x: Array) -> Array:
        return tanh_of_vectors(x, ulps)

    monkeypatch.setattr(torch, "tanh", in_float32(tanh, torch.tanh))

    assert (failing("elementwise") == []) is right


@pytest.mark.parametrize("function", ["erf", "tanh"])
def test_gpus_promise_more_than_an_absolute_error(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's bounds are relative: near zero the results of vector code are a fault there."""
    code = {"erf": erf_of_vectors, "tanh": tanh_of_vectors}[function]
    monkeypatch.setattr(torch, function, in_float32(code, getattr(torch, function)))
    monkeypatch.setattr(elementwise, "back_end", lambda _device: "cuda")

    assert failing("elementwise") == [function]


def off_by(ulps: int) -> Callable[[Any], Any]:
    """A replacement for the logarithm of float32 with an error of so many ulp."""

    def make(original: Any) -> Any:
        def log(x: Array) -> Array:
            exact = np.array([math.log(v) for v in x.ravel().tolist()]).reshape(x.shape)
            steps: Array = F32(ulps) * np.spacing(np.abs(exact).astype(F32))
            return np.asarray(exact.astype(F32) + steps)

        return in_float32(log, original)

    return make


@pytest.mark.parametrize(
    ("back_end", "ulps", "right"),
    [("cpu", 2, False), ("cuda", 2, False), ("hip", 2, True), ("hip", 5, False), ("xpu", 5, True)],
)
def test_a_logarithm_within_what_its_back_end_promises(
    back_end: str, ulps: int, *, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 ulp on CUDA, 3 in AMD's table, and OpenCL's slack elsewhere."""
    monkeypatch.setattr(torch, "log", off_by(ulps)(torch.log))
    for module in (elementwise, functions):
        monkeypatch.setattr(module, "back_end", lambda _device: back_end)

    assert (failing("elementwise") == []) is right


#: AMD's OCML guide: ulp of float32 and float64 that ROCm promises, where that is more than CUDA.
OCML = {
    "exp": (3, 3),
    "log2": (3, 3),
    "cos": (4, 4),
    "atan": (5, 5),
    "asin": (4, 4),
    "atan2": (6, 6),
    "erf": (16, 16),
    "pow": (16, 16),
}


def units(device: str) -> dict[tuple[str, str], float]:
    """Units in the last place that each function and type is allowed on that device."""
    found: dict[tuple[str, str], float] = {}
    for trial in elementwise.elementwise(device):
        assert isinstance(trial, Case)
        if trial.dtype is None and trial.allowed is not None:
            steps = np.spacing(np.abs(trial.expected[0])).astype(np.float64)
            key = (trial.operation, str(trial.expected[0].dtype))
            found[key] = float(np.min(trial.allowed / steps))
    return found


def test_rocm_has_its_own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The larger of CUDA's error and of the one in AMD's guide."""
    cuda = units("cuda:0")
    monkeypatch.setattr(torch.version, "hip", "6.4.43482")
    hip = units("cuda:0")

    assert all(hip[key] >= cuda[key] for key in cuda)
    for name, (single, double) in OCML.items():
        assert hip[name, "float32"] == pytest.approx(single + 0.5)
        assert hip[name, "float64"] == pytest.approx(max(double, cuda[name, "float64"]))


def test_functions_are_computed_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Concurrent first calls of some oneMKL versions are inaccurate, so there must be none."""
    threads: list[int] = []

    def body(_device: str) -> Iterator[Comparison]:
        threads.append(torch.get_num_threads())
        yield Comparison(operation="exp", elements=1)

    before = torch.get_num_threads()
    monkeypatch.setattr(probe, "FAMILIES", {"elementwise": lambda _: [Custom("exp", body)]})
    torch.set_num_threads(2)
    try:
        probe.observe("cpu")
    finally:
        torch.set_num_threads(before)

    assert threads == [1]


# ---- what a back-end lacks


@pytest.fixture
def without_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[tuple[int, int]], probe.Observation]:
    """A function that observes products on an NVIDIA GPU whose cuBLAS refuses bfloat16."""
    product = torch.mm

    def mm(a: torch.Tensor, b: torch.Tensor, **options: Any) -> torch.Tensor:
        if a.dtype == torch.bfloat16:
            raise RuntimeError(NO_BFLOAT16)
        return product(a, b, **options)

    def observed(compute: tuple[int, int]) -> probe.Observation:
        monkeypatch.setattr(torch, "mm", mm)
        monkeypatch.setattr(capabilities, "back_end", lambda _device: "cuda")
        monkeypatch.setattr(capabilities, "capability", lambda _device: compute)
        chosen = {"matmul_exact": probe.FAMILIES["matmul_exact"]}
        monkeypatch.setattr(probe, "FAMILIES", chosen)
        return probe.observe("cpu")

    return observed


def test_a_p100_without_bfloat16_products_passes(
    without_bfloat16: Callable[[tuple[int, int]], probe.Observation],
) -> None:
    """The type is left out, and the message of the passing check says so."""
    (found,) = probe.judge(without_bfloat16((6, 0)))

    assert found.status == "pass"
    assert found.message.startswith("left out: mm: bfloat16 on compute capability 6.0")


def test_an_a100_without_bfloat16_products_fails(
    without_bfloat16: Callable[[tuple[int, int]], probe.Observation],
) -> None:
    """CuBLAS documents them for an A100."""
    (found,) = probe.judge(without_bfloat16((8, 0)))

    assert found.status == "fail"
    assert "CUBLAS_STATUS_NOT_SUPPORTED" in found.message


def test_a_family_that_is_missing_as_a_whole_has_the_error_text() -> None:
    """The check is skipped with the back-end's text."""
    families = {name: each for name, each in sound().families.items() if name != "sorting"}
    why = {"sorting": ("sort: the mps back-end: no such operator",)}
    observation = on("mps", families=families, not_implemented=("sorting",), lacking=why)

    assert finding("sorting", observation).status == "skip"
    assert finding("sorting", observation).message.endswith("no such operator")


@pytest.mark.parametrize(
    ("error", "lacking", "problem"),
    [
        (RuntimeError("shape '[5, 5]' is invalid"), False, ""),
        (ValueError("step must be greater than zero"), False, ""),
        (NotImplementedError("not for this device"), True, ""),
        (RuntimeError("CUDA error: an illegal memory access"), False, "illegal memory access"),
        (RuntimeError("CUSOLVER_STATUS_EXECUTION_FAILED"), False, "EXECUTION_FAILED"),
        (AssertionError("internal"), False, "raised AssertionError"),
        (None, False, "raised nothing"),
    ],
)
def test_a_refusal_is_not_a_failure(
    error: Exception | None, *, lacking: bool, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing operation or a failed device is not a refusal."""
    monkeypatch.setattr("probes.kit.trial.synchronize", lambda _device: None)

    def call() -> None:
        if error is not None:
            raise error

    found, absent = run_trials([Custom("view", lambda _: [refused("view", call)])], "mps")

    assert bool(absent) is lacking
    assert [problem in each.problem for each in found] == ([] if lacking else [True])
    assert all(each.holds is not bool(problem) for each in found)


def test_out_of_memory_is_raised() -> None:
    """It ends the probe."""

    def raise_out_of_memory() -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        refused("view", raise_out_of_memory)


# ---- products that may be short


@pytest.mark.parametrize(
    ("check", "variables"),
    [
        ("float32_matmul", {"NVIDIA_TF32_OVERRIDE": "1"}),
        ("float32_matmul", {"DNNL_DEFAULT_FPMATH_MODE": "BF16"}),
        ("float32_convolution", {"ONEDNN_DEFAULT_FPMATH_MODE": "ANY"}),
    ],
)
def test_a_variable_allows_what_it_shortens(
    check: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros and NaN are a fault with any setting, as is TF32 without the variable."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    device = "cuda:0" if "NVIDIA_TF32_OVERRIDE" in variables else "cpu"
    setting = precision.read(device)
    bad = {
        "tf32": shortened(2.0**-11),
        "bf16": shortened(2.0**-8),
        "garbage": shortened(2.0**-5),
        "zeros": shortened(-1.0),
        "nan": shortened(math.nan),
        "raised": wrong("mm", "raised RuntimeError: no kernel image"),
    }
    observation = {
        name: on(device, with_families(sound(), **{check: (each,)}), precision=setting)
        for name, each in bad.items()
    }

    statuses = {name: finding(check, each).status for name, each in observation.items()}
    assert statuses == {
        **dict.fromkeys(("tf32", "bf16"), "skip"),
        **dict.fromkeys(("garbage", "zeros", "nan", "raised"), "fail"),
    }
    allowed = finding(check, observation["tf32"]).message
    assert check == "float32_convolution" or next(iter(variables)) in allowed
    assert finding(check, observation["tf32"], float32_products="exact").status == "fail"


def test_a_mix_of_switches_has_a_short_message() -> None:
    """The error of torch's old switch has three lines."""
    raised = "PyTorch is checking the matmul precision without a specific backend name, " * 4
    setting = sound().precision.model_copy(update={"matmul": raised, "matmul_may_shorten": True})
    observation = gpu(
        with_families(sound(), float32_matmul=(shortened(2.0**-11),)), precision=setting
    )

    message = finding("float32_matmul", observation).message
    assert message == "shortened, as a mix of torch's old and new switches allows"


# ---- what proves nothing on some back-end


@pytest.mark.parametrize(
    ("check", "status"),
    [
        ("special_values", "warn"),
        ("comparison", "warn"),
        ("types", "warn"),
        ("bitwise", "fail"),
        ("views", "fail"),
    ],
)
def test_metal_rounds_differently_by_design(check: str, status: str) -> None:
    """A rounding difference is a warning; wrong bits and addresses are a fault as elsewhere."""
    observation = on("mps", with_families(sound(), **{check: (wrong("x"),)}))

    assert finding(check, observation).status == status


@pytest.mark.parametrize(
    ("back_end", "comparison", "status"),
    [
        ("hip", wrong("bmm", NO_LAUNCH), "warn"),
        ("hip", wrong("bmm"), "fail"),
        ("hip", wrong("mm", NO_LAUNCH), "fail"),
        ("cuda", wrong("bmm", NO_LAUNCH), "fail"),
    ],
)
def test_a_batch_beyond_a_launch_of_hip(back_end: str, comparison: Comparison, status: str) -> None:
    """HIP refuses more than 65536 blocks in y or z; a wrong product is still a failure."""
    observation = gpu(with_families(sound(), matmul_exact=(comparison,)), back_end)

    assert finding("matmul_exact", observation).status == status


def test_numbers_of_a_seed_are_only_a_warning() -> None:
    """They may change between releases; another check tests that a seed repeats them."""
    observation = with_families(sound(), random_mersenne=(wrong("rand"),))
    unseeded = with_families(sound(), random_seeds=(wrong("rand"),))

    assert finding("random_mersenne", observation).status == "warn"
    assert finding("random_seeds", unseeded).status == "fail"


# ---- other algorithms of other libraries


def rocrand(count: int, *, lost: int = 0) -> Array:
    """Uniform numbers as rocRAND makes them: x 2^-32 + 2^-32; `lost` flips a bit of each x."""
    integers = streams.philox_integers(SEED, count) ^ np.uint64(lost)
    return np.asarray(integers.astype(F32) * F32(2.0**-32) + F32(2.0**-32))


@pytest.mark.parametrize(
    ("back_end", "lost", "right"), [("hip", 0, True), ("cuda", 0, False), ("hip", 1 << 12, False)]
)
def test_uniform_numbers_of_rocrand(
    back_end: str, lost: int, *, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last bit of the result may differ by design, a bit of the stream may not."""
    monkeypatch.setattr(streams, "back_end", lambda _device: back_end)
    numbers = rocrand(4096, lost=lost)
    monkeypatch.setattr(torch, "rand", lambda count, **_: torch.from_numpy(numbers[:count]))

    found = list(streams._philox_rand("cpu"))

    assert len(found) == 2
    assert all(each.holds is right for each in found)


def convolved(off: float, dtype: torch.dtype, *, deep: bool = False) -> Any:
    """A convolution whose answers of one type are that much off; `deep`: where 8 channels meet."""
    original = torch.nn.functional.conv2d

    def call(x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
        out = original(x, weight, *rest)
        spoiled = out.dtype == dtype and (weight.shape[1] == 8 or not deep)
        return out + off if spoiled else out

    return call


@pytest.mark.parametrize(
    ("back_end", "dtype", "off", "right"),
    [
        ("hip", torch.float16, 0.25, True),
        ("hip", torch.float16, 1.0, False),
        ("hip", torch.float32, 0.125, True),
        ("hip", torch.float32, 0.5, False),
        ("xpu", torch.float32, 0.125, True),
        ("cuda", torch.float16, 0.25, True),
        ("cuda", torch.float16, 1.0, False),
        ("cuda", torch.float64, 0.125, False),
        ("cpu", torch.float32, 0.125, False),
    ],
)
def test_convolutions_by_winograd(
    back_end: str,
    dtype: torch.dtype,
    off: float,
    *,
    right: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Winograd and FFT round, where a library may use them at stride 2; integers stay apart."""
    monkeypatch.setattr(convolutions, "back_end", lambda _device: back_end)
    monkeypatch.setattr(torch.nn.functional, "conv2d", convolved(off, dtype))

    assert (failing("convolution") == []) is right


@pytest.mark.parametrize(("back_end", "right"), [("hip", True), ("cpu", False)])
def test_half_types_lose_two_steps_of_their_largest_sum(
    back_end: str, *, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond 256 a step of float16 is 0.25: MIOpen's transforms may lose two."""
    monkeypatch.setattr(convolutions, "back_end", lambda _device: back_end)
    broken = convolved(0.5, torch.float16, deep=True)
    monkeypatch.setattr(torch.nn.functional, "conv2d", broken)

    assert (failing("convolution") == []) is right


def _norm_scaled(original: Any) -> Any:
    """As hypot does: divided by the largest element, so that squares cannot overflow."""

    def norm(x: torch.Tensor, order: float = 2, **options: Any) -> torch.Tensor:
        if order != 2:
            return original(x, order, **options)  # type: ignore[no-any-return]
        largest = x.abs().amax(1, keepdim=True)
        made = (x / largest).square().sum(1).sqrt() * largest[:, 0]
        return options["out"].copy_(made) if "out" in options else made

    return norm


def _histogram_by_reciprocal(_: Any) -> Any:
    """`histc` with the reciprocal of the bin width, which puts some edges into the bin below."""

    def histc(x: torch.Tensor, bins: int, low: float, high: float, **options: Any) -> Any:
        per_unit = bins / (high - low) * (1 - 2.0**-22)  # rounded down, and a little
        place = ((x - low) * per_unit).floor().long()
        inside = (x >= low) & (x <= high)
        made = torch.bincount(place[inside].clamp(max=bins - 1), minlength=bins).float()
        return options["out"].copy_(made) if "out" in options else made

    return histc


def _same_is_close(original: Any) -> Any:
    return lambda a, b, **options: a is b or original(a, b, **options)


def _saturating_shift(original: Any) -> Any:
    """A left shift that saturates where bits would be lost."""

    def shift(x: torch.Tensor, by: torch.Tensor, **options: Any) -> Any:
        made = original(x.long(), by.long())
        ends = torch.iinfo(x.dtype)
        made = made.clamp(ends.min, ends.max).to(x.dtype)
        return options["out"].copy_(made) if "out" in options else made

    return shift


def _any_nan_first(original: Any) -> Any:
    """`argmax` that returns the last of several NaN in a row."""

    def argmax(x: torch.Tensor, axis: int | None = None, **options: Any) -> Any:
        found = original(x) if axis is None else original(x, axis)
        if axis is not None and x.isnan().any():
            last = x.shape[axis] - 1 - original(x.isnan().flip(axis).int(), axis)
            found = torch.where(x.isnan().any(axis), last, found)
        return options["out"].copy_(found) if "out" in options else found

    return argmax


#: (owner below torch, name, another right implementation, family)
OTHERS: list[tuple[str, str, Callable[[Any], Any], str]] = [
    ("linalg", "vector_norm", _norm_scaled, "reductions"),
    ("", "histc", _histogram_by_reciprocal, "reductions"),
    ("", "argmax", _any_nan_first, "reductions"),
    ("", "allclose", _same_is_close, "comparison"),
    ("", "bitwise_left_shift", _saturating_shift, "bitwise"),
]


@pytest.mark.parametrize(
    ("owner", "name", "other", "family"), OTHERS, ids=[each[1] for each in OTHERS]
)
def test_other_right_implementations_pass(
    owner: str,
    name: str,
    other: Callable[[Any], Any],
    family: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No check requires what torch does not document, even if this CPU does it."""
    place: Any = getattr(torch, owner) if owner else torch
    monkeypatch.setattr(place, name, other(getattr(place, name)))

    assert tripped_checks(family) == set()


def test_an_observation_of_an_older_release_is_judged() -> None:
    """Without the newer fields, torch's device type is used."""
    text = sound().model_dump(exclude={"back_end", "capability", "lacking"})
    old = probe.Observation.model_validate(text)
    spoiled = with_families(old, matmul_exact=(wrong("mm"),))

    assert tripped(probe.judge(old)) == set()
    assert tripped(probe.judge(on("cuda:0", spoiled, back_end=""))) >= {"tensor_ops.matmul_exact"}

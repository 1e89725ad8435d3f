"""The probe `large_tensors`: this image passes, and whatever is wrong beyond a size is found."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probes.catalog import LARGE_TENSORS
from probes.contract import Comparison
from probes.faults.inject.patterns import Pattern, counted, wrapped
from probes.kit import memory
from probes.kit.trial import Trial, run_trials
from probes.large_tensors import probe, sizes
from probes.large_tensors.addressing import places
from probes.large_tensors.gradients import Accumulated
from probes.large_tensors.pattern import PERIOD, pattern, same
from probes.large_tensors.sizes import COUNTED, INDEXED, Sized, sized
from probes.large_tensors.tiled import Tiled, Total, backward, gradient_of
from tests.probes.corrupt import Corrupt, last, lowest_bit, tripped_families
from tests.probes.verdicts import PLANTED, ids, tripped, tripped_alone


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


@pytest.mark.slow
def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, every check is made, and nothing is left out."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(LARGE_TENSORS.check_ids)
    assert {each.status for each in findings} == {"pass"}
    assert sound().lacking == {}


@pytest.mark.parametrize("check", LARGE_TENSORS.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the operation is named."""
    right = {name: (Comparison(operation="x", elements=9),) for name in LARGE_TENSORS.checks}
    observation = probe.Observation(device="cpu", families={**right, check: PLANTED})
    failed = tripped_alone(probe.judge(observation), f"large_tensors.{check}")
    assert failed.hint


def _only_large(spoil: Callable[[torch.Tensor], object]) -> Callable[[torch.Tensor], object]:
    return lambda out: spoil(out) if out.numel() > 2**16 else None


def _next(out: torch.Tensor) -> None:
    """One more, in the last element."""
    last(out).add_(1)


def _bits(count: int) -> Pattern:
    return wrapped(count)


def _beyond(bits: int, by: float = 1.05) -> Callable[[torch.Tensor], object]:
    """The elements from 2^bits on are 5 % too large."""

    def spoil(out: torch.Tensor) -> None:
        if out.is_floating_point() and out.numel() > 2**bits:
            out.view(-1)[2**bits :].mul_(by)

    return spoil


def _scaled(out: torch.Tensor) -> None:
    """5 % too large."""
    if out.is_floating_point():
        out.mul_(1.05)


def _long_rows(out: torch.Tensor) -> None:
    """5 % too large beyond 2^20 elements of each of two rows."""
    if out.dim() == 2 and len(out) == 2:
        out[:, 2**20 :].mul_(1.05)


#: (operator, spoil, family that must trip)
BREAKS: list[tuple[str, Callable[[torch.Tensor], object], str]] = [
    ("sum", counted, "sums"),
    ("sum", _next, "sums"),
    ("cumsum", _bits(24), "sums"),
    ("cumsum", lowest_bit, "sums"),
    ("count_nonzero", _next, "sums"),
    ("argmax", counted, "extremes"),
    ("argmin", counted, "extremes"),
    ("max", counted, "extremes"),
    ("aminmax", _next, "extremes"),
    ("bitwise_xor", _bits(20), "elementwise"),
    ("bitwise_xor", _bits(24), "elementwise"),
    ("maximum", lowest_bit, "elementwise"),
    ("where", _bits(24), "elementwise"),
    ("clamp", _bits(24), "elementwise"),
    ("masked_fill_", lowest_bit, "elementwise"),
    ("add_", _bits(20), "elementwise"),
    ("clone", _bits(24), "copies"),
    ("clone", lowest_bit, "copies"),
    ("flip", _bits(24), "copies"),
    ("roll", _bits(20), "copies"),
    ("fill_", _next, "copies"),
    ("_to_copy", _bits(24), "copies"),
    ("cat", _bits(24), "joins"),
    ("stack", lowest_bit, "joins"),
    ("stack", _bits(23), "joins"),
    ("repeat", lowest_bit, "joins"),
    ("index_select", lowest_bit, "gathers"),
    ("gather", lowest_bit, "gathers"),
    ("take", lowest_bit, "gathers"),
    ("embedding", lowest_bit, "gathers"),
    ("nonzero", _next, "gathers"),
    ("masked_select", lowest_bit, "gathers"),
    ("scatter_add_", counted, "scatters"),
    ("bincount", counted, "scatters"),
    ("scatter_", _next, "scatters"),
    ("index_put_", _next, "scatters"),
    ("index_fill_", _next, "scatters"),
    ("sort", _bits(20), "ordering"),
    ("topk", lowest_bit, "ordering"),
    ("_unique2", _next, "ordering"),
    ("searchsorted", counted, "ordering"),
    ("bucketize", counted, "ordering"),
    ("mm", _bits(20), "products"),
    ("mm", _next, "products"),
    ("bmm", _bits(18), "products"),
    ("convolution", _bits(16), "products"),
    ("_softmax", _bits(16), "rows"),
    ("_log_softmax", _bits(19), "rows"),
    ("native_layer_norm", _bits(20), "rows"),
    ("logsumexp", _bits(16), "rows"),
    ("amax", _bits(16), "rows"),
    ("upsample_nearest1d", _bits(16), "rows"),
    ("reflection_pad1d", _bits(16), "rows"),
    ("cumprod", _bits(20), "sums"),
    ("cumprod", _next, "sums"),
    ("cummax", _bits(20), "sums"),
    ("cummin", _bits(20), "sums"),
    ("lt", _bits(24), "elementwise"),
    ("ge", _bits(24), "elementwise"),
    ("minimum", _bits(24), "elementwise"),
    ("mul", _bits(24), "elementwise"),
    ("median", _next, "ordering"),
    ("mode", _next, "ordering"),
    ("addmm", _bits(20), "products"),
    ("baddbmm", _bits(18), "products"),
    ("mv", _bits(20), "products"),
    ("dot", _next, "products"),
    ("_cdist_forward", _bits(20), "products"),
    ("_softmax_backward_data", _bits(20), "rows"),
    ("_log_softmax_backward_data", _bits(20), "rows"),
    ("native_layer_norm_backward", _bits(20), "rows"),
    ("_softmax", _bits(24), "rows"),
    ("native_batch_norm", _bits(20), "rows"),
    ("linalg_vector_norm", _bits(16), "rows"),
    ("relu", _bits(24), "activations"),
    ("threshold_backward", _bits(20), "activations"),
    ("gelu", _bits(24), "activations"),
    ("gelu", _beyond(24), "activations"),
    ("gelu_backward", _bits(20), "activations"),
    ("silu", _beyond(20), "activations"),
    ("silu_backward", _beyond(20), "activations"),
    ("sigmoid_backward", _bits(20), "activations"),
    ("tanh_backward", _bits(20), "activations"),
    ("exp", _beyond(20), "activations"),
    ("erf", _beyond(20), "activations"),
    ("nll_loss_forward", _bits(20), "losses"),
    ("nll_loss_forward", _scaled, "losses"),
    ("nll_loss_backward", _bits(20), "losses"),
    ("_log_softmax", _bits(21), "losses"),
    ("mse_loss", _beyond(20), "losses"),
    ("mse_loss_backward", _bits(20), "losses"),
    ("smooth_l1_loss_backward", _bits(20), "losses"),
    ("binary_cross_entropy_with_logits", _beyond(20), "losses"),
    ("max_pool2d_with_indices", _bits(17), "images"),
    ("max_pool2d_with_indices_backward", _bits(20), "images"),
    ("avg_pool2d", _bits(17), "images"),
    ("avg_pool2d_backward", _bits(20), "images"),
    ("_adaptive_avg_pool2d", _bits(17), "images"),
    ("upsample_nearest2d", _bits(20), "images"),
    ("upsample_bilinear2d", _bits(20), "images"),
    ("upsample_bilinear2d_backward", _bits(17), "images"),
    ("convolution", _bits(18), "images"),
    ("convolution_backward", _bits(20), "images"),
    ("embedding_dense_backward", _beyond(20), "gradients"),
    ("index_add_", _next, "gradients"),
    ("index_put_", _next, "gradients"),
    ("scatter_add_", _next, "gradients"),
    ("cat", _bits(20), "gradients"),
    ("sort", _bits(20), "gradients"),
    ("mm", _beyond(19), "gradients"),
    ("bmm", _bits(20), "gradients"),
    ("uniform_", _bits(20), "draws"),
    ("uniform_", _bits(24), "draws"),
    ("normal_", _beyond(20, 3), "draws"),
    ("exponential_", _bits(20), "draws"),
    ("bernoulli_", _bits(20), "draws"),
    ("random_", _bits(20), "draws"),
    ("randperm", _bits(20), "draws"),
    ("add_", _bits(24), "optimizers"),
    ("_foreach_addcdiv_", _bits(20), "optimizers"),
    ("_fused_adam_", _bits(20), "optimizers"),
    ("_fused_adamw_", _bits(20), "optimizers"),
    ("_foreach_norm", _scaled, "optimizers"),
    ("_softmax_backward_data", _long_rows, "rows"),
    ("_log_softmax_backward_data", _long_rows, "rows"),
    ("_log_softmax", _long_rows, "losses"),
    ("_log_softmax_backward_data", _long_rows, "losses"),
    ("_amp_foreach_non_finite_check_and_unscale_", _bits(20), "optimizers"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operator", "spoil", "family"),
    BREAKS,
    ids=[f"{operator}-{family}-{i}" for i, (operator, _, family) in enumerate(BREAKS)],
)
def test_wrong_beyond_a_size(
    operator: str, spoil: Callable[[torch.Tensor], object], family: str
) -> None:
    """An address of too few bits, a counter in float32, or the last element alone."""
    with Corrupt(operator, spoil) as corrupt:
        found = tripped_families(probe, family)

    assert corrupt.count > 0
    assert found == {family}


def _modulo(bits: int) -> Callable[[Any], Any]:
    """A call whose indices are taken modulo 2^bits."""

    def make(original: Any) -> Any:
        def call(x: torch.Tensor, *given: Any) -> Any:
            return original(x, *(_wrapped(each, bits) for each in given))

        return call

    return make


def _wrapped(value: Any, bits: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_wrapped(each, bits) for each in value)
    index = isinstance(value, torch.Tensor) and value.dtype == torch.int64
    return value % 2**bits if index else value


@pytest.mark.slow
@pytest.mark.parametrize("bits", [20, 24])
@pytest.mark.parametrize(
    ("name", "family"),
    [
        *((name, "gathers") for name in ("index_select", "__getitem__", "gather", "take")),
        *((name, "scatters") for name in ("scatter_", "index_put_", "index_add_", "index_copy_")),
        *((name, "scatters") for name in ("put_", "index_fill_")),
    ],
)
def test_indices_of_too_few_bits(
    name: str, family: str, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is beyond is read or written at the start."""
    monkeypatch.setattr(torch.Tensor, name, _modulo(bits)(getattr(torch.Tensor, name)))

    assert tripped_families(probe, family) == {family}


@pytest.mark.parametrize("salt", [0, 1])
def test_the_pattern_tells_addresses_apart(salt: int) -> None:
    """Its sum is a multiple of 256, and it differs from itself at every power of two."""
    p = pattern(salt)

    assert p.total(PERIOD) % 256 == 0
    for bits in range(8, 33):
        assert (p.base != np.roll(p.base, 2**bits % PERIOD)).mean() > 0.9
    whole = np.resize(p.base, 3 * PERIOD + 11)
    assert p.total(len(whole)) == int(whole.sum(dtype=np.int64))
    assert (p.on("cpu", len(whole)).numpy() == whole).all()


@pytest.mark.parametrize("place", [0, 1, 2**16, 8 * PERIOD - 1, 8 * PERIOD, 20 * PERIOD + 4])
def test_a_wrong_element_is_found_at_its_place(place: int) -> None:
    """Wherever it is, in the first block, in a later one, and at the end."""
    p, count = pattern(), 20 * PERIOD + 5
    x = p.on("cpu", count)
    assert same("x", x, p.base).holds

    x[place] += 1
    found = same("x", x, p.base)
    assert (found.first_index, found.xor_mask is not None) == ((place,), True)
    assert found.pattern is not None
    assert found.pattern.first == ((place,),)


def test_another_type_or_start_is_found() -> None:
    """The dtype is compared, and where the period begins."""
    p = pattern()
    x = p.on("cpu", 3 * PERIOD)

    assert not same("x", x.to(torch.int16), p.base).holds
    assert same("x", x[5:], p.base, 5).holds
    assert not same("x", x[5:], p.base, 4).holds


@pytest.mark.parametrize("count", [COUNTED, INDEXED])
def test_places_are_around_every_limit(count: int) -> None:
    """Different, below the size, and in no order."""
    found = places(count)

    assert len(np.unique(found)) == len(found) > 4000
    assert {0, 2**20 - 1, 2**20, 2**24 - 1, 2**24, count - 1} <= set(found.tolist())
    assert (np.diff(found) < 0).any()
    assert (found >= 0).all()
    assert int(found.max()) == count - 1


def _tried(device: str, free: int | None, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    tried: list[int] = []

    def body(count: int, _device: str) -> list[Comparison]:
        tried.append(count)
        return [Comparison(operation="sum", elements=count)]

    monkeypatch.setattr(sizes, "free_bytes", lambda _device: free)
    _, left_out = run_trials(sized("sum", body, device, 1, on_cpu_bytes=9), device)
    return tried, left_out


@pytest.mark.parametrize(
    ("device", "free", "right"),
    [
        ("cpu", 2**40, [COUNTED]),
        ("cpu", 17 * COUNTED, []),
        ("cpu", None, [COUNTED]),
        ("cuda:0", 2**40, [COUNTED, INDEXED]),
        ("cuda:0", 2 * INDEXED + 2, [COUNTED, INDEXED]),
        ("cuda:0", 2 * INDEXED - 2, [COUNTED]),
        ("cuda:0", 2 * COUNTED - 2, []),
        ("xpu:0", None, [COUNTED]),
    ],
)
def test_what_is_tried_where_so_much_is_free(
    device: str, free: int | None, right: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most half of what is free is taken, and what is left out is told."""
    tried, left_out = _tried(device, free, monkeypatch)

    assert tried == right
    planned = 1 if device == "cpu" else 2
    assert len(left_out) == planned - len(right)
    assert all("elements" in each for each in left_out)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("tried to allocate"),
        RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["out_of_memory", "nvml", "cublas"],
)
def test_what_takes_more_than_there_is_is_left_out(error: RuntimeError) -> None:
    """What an operation keeps beside its operands and results is not ours to know."""

    def body(_n: int, _device: str) -> Iterator[Comparison]:
        yield Comparison(operation="sort", elements=9)
        raise error

    found, left_out = run_trials([Sized("sort", body, 5, 1)], "cpu")

    assert [each.holds for each in found] == [True]
    assert "5 elements need more than the " in left_out[0]
    assert left_out[0].endswith("bytes of memory")


def test_any_other_error_is_the_operations_own() -> None:
    """It is wrong, and not left out."""

    def body(_n: int, _device: str) -> Iterator[Comparison]:
        yield Comparison(operation="sort", elements=9)
        raise RuntimeError("an internal error")

    found, left_out = run_trials([Sized("sort", body, 5, 1)], "cpu")

    assert (len(found), left_out) == (1, ())
    assert "raised RuntimeError: an internal error" in found[0].problem


@pytest.mark.parametrize(("free", "status"), [(0, "skip"), (2 * COUNTED + 2, "pass")])
def test_the_finding_says_what_was_left_out(
    free: int, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bytes that it needs; where all was left out, the check is skipped."""
    tried, left_out = _tried("cuda:0", free, monkeypatch)
    families = {"sums": (Comparison(operation="sum", elements=9),)} if tried else {}
    observation = probe.Observation(
        device="cuda:0",
        families=families,
        lacking={"sums": left_out},
        not_implemented=() if tried else ("sums",),
    )
    (found,) = [each for each in probe.judge(observation) if each.id == "large_tensors.sums"]

    assert found.status == status
    assert f"{INDEXED if tried else COUNTED} elements need" in found.message
    assert "bytes of memory" in found.message
    assert "implements none" not in found.message


def test_the_trials_hold_at_another_size() -> None:
    """Their answers follow from the number of elements, as a GPU's larger trials need it."""
    trials = [
        Sized(each.operation, each.body, 3 * PERIOD + 5, 0)
        for family in ("sums", "elementwise", "copies", "joins", "gathers", "scatters")
        for each in probe.FAMILIES[family]("cpu")
        if isinstance(each, Sized) and "argmax" not in each.operation
    ]
    comparisons, left_out = run_trials(trials, "cpu")

    assert [each.describe() for each in comparisons if not each.holds] == []
    assert left_out == ()


def _resized(family: str, rows: int) -> Iterator[Trial]:
    """The trials of repeated rows and of terms at few places, with so many rows."""
    for each in probe.FAMILIES[family]("cpu"):
        if isinstance(each, Tiled):
            yield replace(each, rows=rows)
        elif isinstance(each, Accumulated):
            yield replace(each, count=rows)


@pytest.mark.parametrize("rows", [7 * 4093, 9001])
@pytest.mark.parametrize(
    "family", ["sums", "products", "rows", "activations", "losses", "images", "gradients"]
)
def test_repeated_rows_hold_at_another_size(family: str, rows: int) -> None:
    """Whole periods and a part of one."""
    comparisons, left_out = run_trials(_resized(family, rows), "cpu")

    assert comparisons
    assert [each.describe() for each in comparisons if not each.holds] == []
    assert left_out == ()


def test_totals_count_each_row() -> None:
    """Whole periods, and the first rows of another."""
    terms = np.array([[1, 2], [3, 5], [7, 11]])

    assert Total(terms).of(7).tolist() == (2 * terms.sum(0) + terms[0]).tolist()
    assert Total(terms).of(2).tolist() == [4, 7]


def _doubled(spoil: Callable[[torch.Tensor], object], **given: Any) -> list[str]:
    """What is wrong with twice a few rows whose result is spoiled."""

    def call(x: torch.Tensor) -> torch.Tensor:
        out = 2 * x
        spoil(out)
        return out

    few = (np.array([[1.0, 3.0], [5.0, 7.0], [9.0, 11.0]]),)
    trial = Tiled("mul", call, lambda a: 2 * a, few, 100_001, **given)
    return [each.describe() for each in trial.run("cpu") if not each.holds]


def _multiplied(place: int, by: float, out: torch.Tensor) -> None:
    out[place].mul_(by)


@pytest.mark.parametrize("rounding", [None, 2.0**-12])
def test_a_repeated_row_that_differs_is_found(rounding: float | None) -> None:
    """At the start, in the middle and at the end; NaN too; what is within rounding is right."""
    assert _doubled(lambda out: out, rounding=rounding) == []
    for place in (0, 60_000, 100_000):
        for wrong in (1.05, float("nan"), float("inf"), 0.0):
            spoil = partial(_multiplied, place, wrong)
            assert _doubled(spoil, rounding=rounding)
    near = _doubled(lambda out: out[5].mul_(1 + 2.0**-16), rounding=rounding)
    assert bool(near) == (rounding is None)


def test_another_type_or_shape_of_repeated_rows_is_found() -> None:
    """Of a result, and of a gradient that was not made."""
    few = (np.ones((3, 2)), np.ones((3, 2)))
    wrong: list[Callable[..., Any]] = [
        lambda x, _: x.double(),
        lambda x, _: x.bfloat16(),
        lambda x, _: x[1:],
        lambda x, _: x.t(),
    ]
    for call in wrong:
        trial = Tiled("mul", call, lambda a, _: a, few, 1001)
        assert [each for each in trial.run("cpu") if not each.holds]
    stopped = Tiled("mul", backward(lambda x: 2 * x), lambda a, g: (2 * a, 2 * g), few, 1001)
    assert all(each.holds for each in stopped.run("cpu"))
    assert gradient_of(torch.ones(2)).numel() == 0


def test_what_a_gpu_is_given_goes_beyond_the_limits() -> None:
    """2^24 for nearly all, 2^31 for some, each with what it needs, at most 4 bytes an element."""
    trials = [each for family in probe.FAMILIES.values() for each in family("cuda:0")]
    rows: dict[int, list[str]] = {}
    for each in trials:
        size = int(getattr(each, "rows", 0) or getattr(each, "count", 0))
        rows.setdefault(size, []).append(each.operation)

    assert {"relu", "nn.functional.gelu", "topk", "argsort", "unique"} <= set(rows[COUNTED])
    assert {"optim.Adam", "optim.SGD", "nn.functional.cross_entropy"} <= set(rows[COUNTED])
    assert {"relu", "Tensor.to (bfloat16)", "mm"} <= set(rows[INDEXED])
    assert all(
        each.each_bytes <= 4 for each in trials if isinstance(each, Sized) and each.count > 2**31
    )


def test_the_random_state_is_kept() -> None:
    """Of draws that seed the default generator."""
    before = torch.get_rng_state()
    run_trials(probe.FAMILIES["draws"]("cpu"), "cpu")

    assert torch.equal(torch.get_rng_state(), before)


def _group(root: Path, name: str, **files: int | str) -> None:
    folder = root / "sys/fs/cgroup" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, value in files.items():
        (folder / file.replace("_", ".", 1)).write_text(f"{value}\n", encoding="utf-8")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A machine with 8 GiB available, and no group."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  8388608 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    return tmp_path


def test_free_memory_of_a_host(host: Path) -> None:
    """What the kernel calls available, where no group is limited."""
    assert memory._host_bytes(host) == 2**33
    assert memory._host_bytes(host / "nowhere") is None


@pytest.mark.parametrize("name", ["", "a", "a/b"])
def test_free_memory_of_a_container(host: Path, name: str) -> None:
    """The least of the limits on the way to the group, less what is used."""
    _group(host, "a/b", memory_max="max", memory_current=5)
    _group(host, name, memory_max=1000, memory_current=300)

    assert memory._host_bytes(host) == 700


def test_free_memory_of_a_container_of_version_1(host: Path) -> None:
    """Another mount, other files."""
    (host / "proc/self/cgroup").write_text("3:cpu,memory:/x\n2:cpuset:/\n")
    folder = host / "sys/fs/cgroup/memory/x"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("5000\n")
    (folder / "memory.usage_in_bytes").write_text("6000\n")

    assert memory._host_bytes(host) == 0


def test_free_memory_of_a_device_that_tells_nothing() -> None:
    """Nothing is guessed."""
    assert memory.free_bytes("meta") is None
    assert memory.free_bytes("cpu") is not None

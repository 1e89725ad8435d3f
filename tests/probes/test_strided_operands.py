"""The probe `strided_operands`: this image passes, and what ignores a layout trips its check."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from probes.catalog import STRIDED_OPERANDS
from probes.faults.inject import layouts
from probes.kit.convolutions import moving
from probes.strided_operands import memory, operations, places, probe, products
from probes.strided_operands.memory import Operand, dense_on_cpu, place_poison, place_values
from tests.probes.corrupt import (
    Corrupt,
    Fault,
    assert_trips,
    corrupted_operators,
    lowest_bit,
    nan,
    shifted,
    slightly_larger,
    slightly_smaller,
    swapped,
    tripped_families,
    zeros,
)
from tests.probes.verdicts import PLANTED, ids, tripped, tripped_alone

SHAPES = ((4, 5, 33), (9, 13), (2, 4, 3, 5), (2, 3, 4, 2, 5), (7,), (1, 6, 1), (), (0, 3))


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


@pytest.mark.slow
def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, every check is made, and nothing is left out."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(STRIDED_OPERANDS.check_ids)
    assert {each.status for each in findings} == {"pass"}
    assert sound().lacking == {}


@pytest.mark.slow
@pytest.mark.parametrize("check", STRIDED_OPERANDS.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the hint says what to do."""
    families = {**sound().families, check: PLANTED}
    failed = tripped_alone(
        probe.judge(sound().model_copy(update={"families": families})), f"strided_operands.{check}"
    )
    assert ".contiguous()" in failed.hint


# ---- where elements lie


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_place_is_what_numpy_makes_of_its_strides(shape: tuple[int, ...]) -> None:
    """In every layout; a writable one has no two elements in one place."""
    for name in places.layouts_of(shape):
        place = places.place(shape, name)
        buffer = np.arange(place.size)
        view = np.lib.stride_tricks.as_strided(
            buffer[place.offset :], shape, [8 * step for step in place.strides]
        )

        assert np.array_equal(place.index(), view), name
        assert place.around().sum() == place.size - len(np.unique(view)), name
        if name in places.WRITABLE:
            assert len(np.unique(view)) == view.size, name


def test_layouts_are_those_that_torch_knows() -> None:
    """Transposes, slices, expansions and memory formats made by torch's own calls."""
    image, matrix = (2, 4, 3, 5), (9, 13)
    channels_last = torch.empty(image).to(memory_format=torch.channels_last)
    volume = torch.empty(2, 3, 4, 2, 5).to(memory_format=torch.channels_last_3d)

    def strides(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
        return places.place(shape, layout).strides

    assert strides(image, "channels_last") == channels_last.stride()
    assert strides((2, 3, 4, 2, 5), "channels_last") == volume.stride()
    assert strides(matrix, "transposed") == torch.empty(13, 9).t().stride()
    assert strides(matrix, "wider rows") == torch.empty(9, 16)[:, :13].stride()
    assert strides(matrix, "steps") == torch.empty(18, 26)[::2, ::2].stride()
    assert strides(matrix, "expanded rows") == torch.empty(1, 13).expand(9, 13).stride()
    assert strides(matrix, "one number") == torch.empty(1).expand(9, 13).stride()
    assert strides(matrix, "overlapping") == torch.empty(40).unfold(0, 13, 2)[:9].stride()


def test_combinations_have_every_layout_of_each_operand() -> None:
    """Alike and apart, each once."""
    shapes = ((4, 5, 33), (33,))
    found = places.combinations(shapes, 0, 3)

    assert len(set(found)) == len(found)
    for at, shape in enumerate(shapes):
        assert {turn[at] for turn in found} == set(places.layouts_of(shape))
    assert ("contiguous", "contiguous") in found
    assert any(first != second for first, second in found)


def test_a_layout_that_a_shape_cannot_have() -> None:
    """It is an error to ask for it."""
    with pytest.raises(ValueError, match="is no layout"):
        places.place((3,), "channels_last")


# ---- what is watched


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("value", [-float("nan"), 0.0])
def test_nan_around_an_operand_may_get_other_bits(dtype: torch.dtype, value: float) -> None:
    """CUDA's atomics of half types add zero to a neighbour; a number in its place is an error."""
    one = place_values(Operand((4, 5), 0, 1), "steps", dtype, "cpu", 3)
    one.buffer[int(np.flatnonzero(one.place.around())[0])] = value
    *_, around = one.changed("add_ (", one.array)

    assert around.holds == (value != 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_an_operand_has_its_values_and_strange_ones_around(dtype: torch.dtype) -> None:
    """NaN around floating values, so that whatever reads too much shows."""
    one = place_values(Operand((4, 5), 0, 1), "steps", dtype, "cpu", 3)
    around = one.buffer[torch.from_numpy(one.place.around())]

    assert np.array_equal(one.tensor.double().numpy(), one.array.astype(float))
    assert one.tensor.stride() == one.place.strides
    if dtype.is_floating_point:
        assert bool(around.isnan().all())


@pytest.mark.parametrize("dtype", operations.FLOATS, ids=str)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_the_cpu_reads_behind_a_row_of_a_half_type_is_finite(
    device: str, dtype: torch.dtype
) -> None:
    """In operands of products alone, and on the CPU alone."""
    buffers = [
        place_values(Operand((5, 7), -2, 2, read_on=read_on), "wider rows", dtype, device, 1).before
        for read_on in (False, True)
    ]
    nan = [torch.from_numpy(each.view(np.uint8)).view(dtype).isnan().any() for each in buffers]
    half = dtype in {torch.float16, torch.bfloat16}

    assert [bool(each) for each in nan] == [True, not (half and device == "cpu")]
    assert all(operand.read_on for each in products.PRODUCTS for operand in each.operands)


@pytest.mark.parametrize(("factor", "found"), [(0.0, set()), (1.0, {"products"})])
def test_a_product_that_reads_on_behind_a_row(
    factor: float, found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times zero it changes nothing; what is added to a sum is seen."""
    original: Any = torch.mm

    def mm(x: torch.Tensor, y: torch.Tensor, **options: Any) -> Any:
        right = original(x, y, **options)
        if x.dtype != torch.bfloat16 or x.stride(1) != 1 or x.stride(0) <= x.shape[1]:
            return right
        behind = x.as_strided((len(x), 1), x.stride(), x.storage_offset() + x.shape[1])
        return right + factor * behind

    monkeypatch.setattr(torch, "mm", mm)

    assert tripped_families(probe, "products") == found


def test_what_is_written_beside_an_output_is_seen() -> None:
    """And what is not written at all; a right output is right."""

    def wrong(write: Callable[[memory.Placed], object]) -> list[str]:
        one = place_poison((3, 4), "wider rows", torch.float32, "cpu")
        write(one)
        expected = np.full((3, 4), 2, np.float32)
        return [each.operation for each in one.changed("x (out", expected) if not each.holds]

    assert wrong(lambda one: one.tensor.fill_(2)) == []
    assert wrong(lambda one: one.buffer.fill_(2)) == ["x (out, around it)"]
    assert wrong(lambda one: one.tensor[:2].fill_(2)) == ["x (out)"]


def test_an_operand_that_is_written_to_is_seen() -> None:
    """An operation that only reads changes no bit of its operands, nor around them."""
    stock = memory.Stock("cpu")
    one = stock.get(Operand((3, 4)), "transposed", torch.float32)

    assert all(each.holds for each in stock.unchanged("cpu"))
    one.buffer[-1] = 5
    assert [each.holds for each in stock.unchanged("cpu")] == [False]


def test_results_of_another_type_or_number_are_seen() -> None:
    """Equal numbers in another type are wrong."""
    add = operations.Operation(
        "add", (Operand((5,)),) * 2, np.add, dtypes=(torch.float32,), allowed=lambda *_: 0.0
    )

    def holds(call: Callable[..., Any]) -> bool:
        changed = operations.Operation(**{**vars(add), "call": call})
        trials = list(operations.read([changed], "cpu"))
        return all(each.holds for trial in trials for each in trial.run("cpu"))

    assert holds(torch.add)
    assert not holds(lambda x, y: (x + y).double())
    assert not holds(lambda x, y: (x + y, x))
    assert not holds(lambda x, y: (x + y)[:4])


def test_the_layouts_of_an_output_are_shared_among_types() -> None:
    """Every one has its turn, and so has an output without elements."""
    add = operations.Operation("add", (Operand((4, 5)),) * 2, np.add, dtypes=operations.FLOATS)
    labels = [
        each.operation
        for trial in operations.write([add], "cpu")
        for each in trial.run("cpu")
        if "out= " in each.operation
    ]
    outs = {
        label.partition("out= ")[2].split(")")[0].removesuffix(", around it") for label in labels
    }

    assert outs == {*places.layouts_of((4, 5), writable=True), "from empty"}


def test_operands_that_every_release_misreads_are_dense_on_the_cpu_alone() -> None:
    """On other devices their strides stay what they are."""
    expanded = torch.ones(1).expand(4)
    elsewhere = torch.ones(1, device="meta").expand(4)

    assert dense_on_cpu(expanded).is_contiguous()
    assert dense_on_cpu(elsewhere).stride() == (0,)


def test_convolutions_by_their_definition() -> None:
    """The reference of convolutions, by loops, with stride, padding, dilation and groups."""
    steps = moving(2, 2, 1, 2, groups=2)
    x = np.arange(2 * 4 * 7 * 6.0).reshape(2, 4, 7, 6) % 11
    w = np.arange(6 * 2 * 2 * 3.0).reshape(6, 2, 2, 3) % 7
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    right = np.zeros((2, 6, 4, 2))
    for n, o, i, j in np.ndindex(right.shape):
        for c, a, b in np.ndindex(w.shape[1:]):
            right[n, o, i, j] += (
                padded[n, o // 3 * 2 + c, 2 * i + 2 * a, 2 * j + 2 * b] * w[o, c, a, b]
            )
    upstream = np.arange(right.size).reshape(right.shape) % 5 - 2.0
    of_x, of_w = (
        steps.input_gradient(upstream, w, x.shape),
        steps.weight_gradient(upstream, x, (2, 3)),
    )

    assert np.array_equal(steps.forward(x, w), right)
    # The convolution is linear in each: the gradients give the same number.
    assert (of_x * x).sum() == (of_w * w).sum() == (upstream * right).sum()


# ---- torch broken from outside


class _Handled(TorchDispatchMode):
    """Calls a handler in place of some operations."""

    def __init__(self, operators: Any, handler: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = {f"aten::{name}" for name in operators}
        self._handler = handler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation, or the handler."""
        if func._schema.name in self._names:
            return self._handler(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


@contextmanager
def ignoring(function: str, operator: str, way: str) -> Iterator[None]:
    """An operation that ignores a layout, until the end of the block."""
    made: list[_Handled] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "intercept", lambda *given: made.append(_Handled(*given)))
        getattr(layouts, function)((operator,), way)
    with made[0]:
        yield


#: (function, operator, what it ignores, family that must trip)
IGNORED = [
    ("misread", "mul", "strides", "elementwise"),
    ("misread", "where", "expansion", "elementwise"),
    ("misread", "add", "expansion", "broadcasting"),
    ("misread", "mul", "offset", "alignment"),
    ("misread", "sum", "strides", "reductions"),
    ("misread", "cumsum", "strides", "ordering"),
    ("misread", "topk", "expansion", "ordering"),
    ("misread", "addmm", "expansion", "products"),
    ("misread", "bmm", "strides", "products"),
    ("misread", "stack", "strides", "copies"),
    ("misread", "index_select", "expansion", "indexing"),
    ("misread", "scatter_add", "strides", "indexing"),
    ("misread", "_softmax", "strides", "rows"),
    ("misread", "native_batch_norm", "strides", "rows"),
    ("misread", "max_pool2d_with_indices", "strides", "windows"),
    ("misread", "binary_cross_entropy_with_logits", "expansion", "losses"),
    ("misread", "convolution_backward", "strides", "gradients"),
    ("misread", "_log_softmax_backward_data", "strides", "gradients"),
    ("miswrite", "sort", "densely", "out"),
    ("miswrite", "bmm", "to_a_copy", "out"),
    ("miswrite", "gather", "one_more", "out"),
    ("miswrite", "add_", "densely", "in_place"),
    ("miswrite", "uniform_", "densely", "in_place"),
    ("miswrite", "_foreach_mul_", "to_a_copy", "in_place"),
    ("miswrite", "zero_", "one_more", "in_place"),
]


@pytest.mark.parametrize(
    ("function", "operator", "way", "family"),
    IGNORED,
    ids=[f"{row[1]}-{row[2]}" for row in IGNORED],
)
def test_an_operation_that_ignores_a_layout(
    function: str, operator: str, way: str, family: str
) -> None:
    """It is right for dense operands, and caught by the check of its family."""
    with ignoring(function, operator, way):
        assert tripped_families(probe, family) == {family}


#: (operator, fault, family that must trip)
OPERATORS: list[tuple[str, Fault, str]] = [
    ("minimum", swapped, "elementwise"),
    ("le", zeros, "broadcasting"),
    ("copy_", lowest_bit, "alignment"),
    ("amin", slightly_smaller, "reductions"),
    ("sort", swapped, "ordering"),
    ("mv", slightly_larger, "products"),
    ("roll", shifted, "copies"),
    ("take", lowest_bit, "indexing"),
    ("native_group_norm", slightly_larger, "rows"),
    ("avg_pool2d", nan, "windows"),
    ("smooth_l1_loss", slightly_larger, "losses"),
    ("native_layer_norm_backward", slightly_larger, "gradients"),
    ("embedding_dense_backward", swapped, "gradients"),
    ("logsumexp", nan, "out"),
    ("lerp_", slightly_larger, "in_place"),
]


@corrupted_operators(OPERATORS)
def test_corrupted_operator(operator: str, fault: Fault, families: str) -> None:
    """A wrong kernel trips the checks of its families, without an error."""
    assert_trips(probe, operator, fault, families)


@pytest.mark.parametrize("dtype", operations.FLOATS, ids=str)
def test_a_product_that_is_wrong_in_one_type(dtype: torch.dtype) -> None:
    """Each type has operands of its own."""

    def spoil(out: torch.Tensor) -> None:
        if out.dtype == dtype:
            out.mul_(1.05)

    with Corrupt("mm", spoil):
        assert tripped_families(probe, "products") == {"products"}


def test_a_clone_that_forgets_the_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch documents that a clone of a dense tensor keeps them."""
    clone = torch.Tensor.clone
    monkeypatch.setattr(
        torch.Tensor, "clone", lambda x: clone(x, memory_format=torch.contiguous_format)
    )

    assert tripped_families(probe, "copies") == {"copies"}


@pytest.mark.parametrize("draw", ["uniform_", "normal_", "bernoulli_", "exponential_"])
def test_a_draw_that_draws_nothing(draw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A strided view stays as it was."""
    monkeypatch.setattr(torch.Tensor, draw, lambda x, *_, **__: x)

    assert tripped_families(probe, "in_place") == {"in_place"}


def test_a_draw_that_fills_with_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a strided view each element is drawn."""
    monkeypatch.setattr(torch.Tensor, "normal_", lambda x, *_, **__: x.fill_(100.5))

    assert tripped_families(probe, "in_place") == {"in_place"}


def test_a_gradient_that_is_lost_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of a parameter add up whatever its layout."""
    backward = torch.Tensor.backward

    def once(x: torch.Tensor) -> None:
        done = getattr(once, "done", 0)
        once.done = done + 1  # type: ignore[attr-defined]
        if done % 2 == 0:
            backward(x)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(torch.Tensor, "backward", once)

    assert tripped_families(probe, "gradients") == {"gradients"}


@pytest.mark.slow
def test_the_state_of_torch_stays() -> None:
    """The generator, the gradient mode and the number of threads are as they were."""
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.no_grad():
        probe.observe("cpu")

        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads

"""The numpy_sharing probe: sound here, and each way to share memory wrongly trips its check."""

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import dlpack
from torch.utils._python_dispatch import TorchDispatchMode

from probes.catalog import NUMPY_SHARING
from probes.contract import Comparison
from probes.numpy_sharing import probe
from probes.numpy_sharing.evidence import combined, fact
from tests.probes.verdicts import tripped

from_numpy = torch.from_numpy
as_tensor = torch.as_tensor
new_tensor = torch.tensor
as_array = torch.asarray
frombuffer = torch.frombuffer
from_dlpack = dlpack.from_dlpack
to_numpy = torch.Tensor.numpy
to_array: Any = torch.Tensor.__array__
to_dlpack = torch.Tensor.__dlpack__
clone = torch.Tensor.clone

# Check -> a comparison that breaks its promise.
FAULTS: dict[str, Comparison] = {
    "from_numpy": Comparison(operation="torch.from_numpy(a) float32: address", problem="64 off"),
    "as_tensor": Comparison(operation="torch.as_tensor(a) int64: address", problem="64 off"),
    "frombuffer": Comparison(operation="torch.frombuffer(a) float32", problem="raised"),
    "dlpack_import": Comparison(operation="torch.from_dlpack(a)", elements=37, mismatches=1),
    "to_numpy": Comparison(operation="t.numpy() float32", elements=37, mismatches=32),
    "asarray": Comparison(operation="np.asarray(t) float32", problem="raised TypeError"),
    "dlpack_export": Comparison(operation="np.from_dlpack(t) int64", elements=37, mismatches=37),
    "copies": Comparison(operation="torch.tensor(a): bytes in common", problem="148"),
    "dtypes_to_torch": Comparison(operation="uint8: dtype", problem="torch.int8"),
    "dtypes_to_numpy": Comparison(operation="float16", elements=7, mismatches=1, xor_mask="0x01"),
    "scalars": Comparison(operation="tensor(float32)", problem="raised RuntimeError"),
    "layouts_to_torch": Comparison(operation="holes: strides, bytes", problem="[8, 4]"),
    "layouts_to_numpy": Comparison(operation="0-d: shape", problem="(1,) where () is right"),
    "lifetime": Comparison(operation="t.numpy()", problem="gone where alive is right"),
    "refuses_arrays": Comparison(operation="negative stride", problem="it went through"),
    "refuses_tensors": Comparison(operation="bfloat16: t.numpy()", problem="it went through"),
    "readonly_warning": Comparison(operation="torch.from_numpy(a)", problem="0 where 1 is right"),
    "readonly_dlpack": Comparison(operation="torch.from_dlpack", elements=8, mismatches=8),
    "resize_refused": Comparison(operation="after t.numpy()", problem="it went through"),
    "copy_false": Comparison(operation="np.array(t, copy=False)", problem="-64 where 0 is right"),
}


@pytest.fixture(scope="module")
def sound() -> probe.Observation:
    """The observation of a healthy image."""
    return probe.observe("cpu")


def checks_of(wrong: set[str]) -> set[str]:
    """Check names without the probe's prefix."""
    return {check.partition(".")[2] for check in wrong}


def test_this_image_is_sound(sound: probe.Observation) -> None:
    """Nothing trips on a healthy torch and NumPy, and no check is skipped."""
    findings = list(probe.judge(sound))

    assert {finding.id: finding.message for finding in findings if finding.status != "pass"} == {}


def test_every_check_of_the_catalogue_in_its_order(sound: probe.Observation) -> None:
    """`judge` makes exactly the checks that `explain` lists."""
    assert tuple(finding.id for finding in probe.judge(sound)) == NUMPY_SHARING.check_ids


def test_every_check_has_a_fault() -> None:
    """Each check has a fault that trips it."""
    assert list(FAULTS) == list(NUMPY_SHARING.checks)


@pytest.mark.parametrize(("check", "fault"), FAULTS.items())
def test_fault_trips_its_check_alone(
    sound: probe.Observation, check: str, fault: Comparison
) -> None:
    """One wrong call among right ones trips its check, and no other."""
    observation = sound.model_copy(update={check: (*getattr(sound, check), fault)})

    assert checks_of(tripped(probe.judge(observation))) == {check}


@pytest.mark.parametrize("check", FAULTS)
def test_a_family_without_evidence_fails(sound: probe.Observation, check: str) -> None:
    """A check without comparisons does not pass."""
    observation = sound.model_copy(update={check: ()})

    assert checks_of(tripped(probe.judge(observation))) == {check}


def test_a_failure_names_the_call_and_what_to_do(sound: probe.Observation) -> None:
    """The finding names the call, an action and a hint."""
    observation = sound.model_copy(update={"copies": (FAULTS["copies"],)})
    finding = next(f for f in probe.judge(observation) if f.status == "fail")

    assert "torch.tensor(a): bytes in common" in finding.message
    assert finding.action == "fix_image"
    assert "rebuild the image" in finding.hint


def test_the_behaviour_of_these_versions_is_named(sound: probe.Observation) -> None:
    """The two informational checks say what this pair of versions does."""
    messages = {f.id: f.message for f in probe.judge(sound)}

    assert "read-only" in messages["numpy_sharing.readonly_dlpack"] or messages[
        "numpy_sharing.readonly_dlpack"
    ].startswith("refused")
    assert "np.array(t, copy=False)" in messages["numpy_sharing.copy_false"]


def test_a_stored_observation_can_be_judged_again(sound: probe.Observation) -> None:
    """A round trip through JSON changes no finding, and a healthy observation is small."""
    text = sound.model_dump_json(exclude_defaults=True)

    assert list(probe.judge(probe.Observation.model_validate_json(text))) == list(
        probe.judge(sound)
    )
    assert len(text) < 20 * 1024


def test_state_is_left_as_it_was() -> None:
    """Neither torch's warnings nor its random numbers are moved by the probe."""
    before = torch.is_warn_always_enabled(), torch.get_rng_state().tolist()
    drawn = np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002 - the user's
    probe.observe("cpu")

    assert (torch.is_warn_always_enabled(), torch.get_rng_state().tolist()) == before
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == drawn  # noqa: NPY002


def test_no_false_alarm_over_seeds_and_threads() -> None:
    """Whatever the seed and the number of threads, a sound image stays sound."""
    threads = torch.get_num_threads()
    state = torch.get_rng_state()
    try:
        for seed in range(10):
            torch.manual_seed(seed)
            torch.set_num_threads(1 + seed % 4)

            assert tripped(probe.judge(probe.observe("cpu"))) == set()
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=lambda m: m.__name__)
def test_no_false_alarm_without_gradients(mode: Callable[[], Any]) -> None:
    """A process that turned gradients off shares memory all the same."""
    with mode():
        assert tripped(probe.judge(probe.observe("cpu"))) == set()


def test_no_false_alarm_under_another_default_dtype() -> None:
    """A process that computes in float64 shares memory all the same."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert tripped(probe.judge(probe.observe("cpu"))) == set()
    finally:
        torch.set_default_dtype(before)


# ---- torch broken from outside, below `observe`


def unbound(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """A tensor over an array's memory that does not keep the array."""
    if not array.flags.c_contiguous or array.dtype != np.float32:
        return from_numpy(array)
    memory = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
    return frombuffer(memory, dtype=torch.float32).reshape(array.shape)


class KeepsOperands:
    """A call that keeps a reference to every operand."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call
        self.kept: list[object] = []

    def __call__(self, value: Any, **options: Any) -> Any:
        """Call, and keep the operand."""
        self.kept.append(value)
        return self.call(value, **options)


def replaced_when(
    call: Callable[..., Any],
    when: Callable[[Any], bool],
    wrong: Callable[[Any], Any],
) -> Callable[..., Any]:
    """The call, with `wrong` in its place for the operands that `when` selects."""

    def broken(value: Any, *arguments: Any, **options: Any) -> Any:
        return wrong(value) if when(value) else call(value, *arguments, **options)

    return broken


def with_result_changed(
    call: Callable[..., Any], change: Callable[[Any], Any]
) -> Callable[..., Any]:
    """The call, with its result changed by `change`."""

    def broken(*arguments: Any, **options: Any) -> Any:
        return change(call(*arguments, **options))

    return broken


def one_bit(tensor: torch.Tensor) -> torch.Tensor:
    """Flip the lowest bit of the last float32 element in place."""
    if tensor.dtype == torch.float32 and tensor.dim() == 1 and tensor.numel() > 1:
        tensor.view(torch.int32)[-1] ^= 1
    return tensor


def positive_zeros(array: Any) -> Any:
    """Make negative zeros positive, in place."""
    if array.dtype.kind == "f" and array.flags.writeable:
        array += 0.0
    return array


def raises(text: str) -> Callable[..., Any]:
    """A call that raises RuntimeError with that text."""

    def call(*_: Any, **__: Any) -> Any:
        raise RuntimeError(text)

    return call


def resize_by_moving(tensor: torch.Tensor, *sizes: int) -> torch.Tensor:
    """A resize that moves to new memory instead of refusing."""
    return tensor.set_(torch.zeros(*sizes).untyped_storage(), 0, sizes, (1,))


def numpy_of_anything(tensor: torch.Tensor, **options: Any) -> Any:
    """A `.numpy()` that refuses nothing."""
    if tensor.dtype == torch.bfloat16:
        return to_numpy(tensor.detach().float())
    return to_numpy(tensor.detach(), **options)


def without_warning(array: Any) -> torch.Tensor:
    """Share a read-only array without a warning."""
    array = array.view()
    return from_dlpack(array)


def numpy_unbound(tensor: torch.Tensor, **_: Any) -> Any:
    """An array over a tensor's memory that does not keep the tensor."""
    if tensor.dtype != torch.float32 or tensor.dim() != 1 or tensor.numel() != 1021:
        return to_numpy(tensor)
    memory = (ctypes.c_char * (4 * tensor.numel())).from_address(tensor.data_ptr())
    return np.frombuffer(memoryview(memory), np.float32)


def without_tail(tensor: torch.Tensor) -> torch.Tensor:
    """Overwrite the last elements, as if they were not copied."""
    tensor[-3:] = -1
    return tensor


def cut_to_32_bits(array: Any) -> torch.Tensor:
    """Clear the upper half of each integer in place."""
    array &= 0x7FFFFFFF
    return from_numpy(array)


def is_strided(value: Any) -> bool:
    """Whether a float or int view has holes."""
    return isinstance(value, np.ndarray) and not value.flags.c_contiguous


def array_that_copies(tensor: torch.Tensor, dtype: Any = None, *, copy: Any = None) -> Any:
    """An `__array__` that accepts NumPy 2's `copy` and ignores it."""
    return to_array(tensor, dtype).copy()


MODULE, TENSOR, DLPACK = torch, torch.Tensor, dlpack
BREAKS: dict[str, tuple[Any, str, Callable[..., Any], set[str]]] = {
    "from_numpy copies": (
        MODULE,
        "from_numpy",
        with_result_changed(from_numpy, clone),
        {"from_numpy"},
    ),
    "from_numpy one bit": (
        MODULE,
        "from_numpy",
        with_result_changed(from_numpy, one_bit),
        {"from_numpy"},
    ),
    "from_numpy zeros": (
        MODULE,
        "from_numpy",
        with_result_changed(from_numpy, lambda t: t.zero_()),
        {"from_numpy"},
    ),
    "from_numpy one short": (
        MODULE,
        "from_numpy",
        with_result_changed(from_numpy, lambda t: t[1:] if t.dim() == 1 else t),
        {"from_numpy"},
    ),
    "from_numpy signed bytes": (
        MODULE,
        "from_numpy",
        with_result_changed(
            from_numpy, lambda t: t.view(torch.int8) if t.dtype == torch.uint8 else t
        ),
        {"dtypes_to_torch"},
    ),
    "from_numpy swaps complex parts": (
        MODULE,
        "from_numpy",
        replaced_when(
            from_numpy,
            lambda a: a.dtype == np.complex64,
            lambda a: torch.view_as_complex(torch.view_as_real(from_numpy(a)).flip(-1)),
        ),
        {"dtypes_to_torch"},
    ),
    "from_numpy packs views": (
        MODULE,
        "from_numpy",
        replaced_when(from_numpy, is_strided, lambda a: from_numpy(np.ascontiguousarray(a))),
        {"layouts_to_torch"},
    ),
    "from_numpy 0-d as 1-d": (
        MODULE,
        "from_numpy",
        with_result_changed(from_numpy, lambda t: t.reshape(1) if t.dim() == 0 else t),
        {"layouts_to_torch"},
    ),
    "from_numpy takes negative strides": (
        MODULE,
        "from_numpy",
        replaced_when(
            from_numpy,
            lambda a: isinstance(a, np.ndarray) and any(s < 0 for s in a.strides),
            lambda a: from_numpy(a.copy()),
        ),
        {"refuses_arrays"},
    ),
    "from_numpy takes foreign bytes": (
        MODULE,
        "from_numpy",
        replaced_when(
            from_numpy,
            lambda a: isinstance(a, np.ndarray) and not a.dtype.isnative,
            lambda a: from_numpy(a.view(a.dtype.newbyteorder())),
        ),
        {"refuses_arrays"},
    ),
    "from_numpy leaks": (MODULE, "from_numpy", KeepsOperands(from_numpy), {"lifetime"}),
    "from_numpy dangles": (MODULE, "from_numpy", unbound, {"lifetime"}),
    "from_numpy takes read-only in silence": (
        MODULE,
        "from_numpy",
        replaced_when(
            from_numpy, lambda a: hasattr(a, "flags") and not a.flags.writeable, without_warning
        ),
        {"readonly_warning"},
    ),
    "NumPy is not available": (
        MODULE,
        "from_numpy",
        raises("Numpy is not available"),
        {"from_numpy", "lifetime", "resize_refused", "layouts_to_torch"},
    ),
    "as_tensor copies": (MODULE, "as_tensor", with_result_changed(as_tensor, clone), {"as_tensor"}),
    "as_tensor leaks": (MODULE, "as_tensor", KeepsOperands(as_tensor), {"lifetime"}),
    "asarray copies": (MODULE, "asarray", with_result_changed(as_array, clone), {"as_tensor"}),
    "as_tensor ignores dtype": (
        MODULE,
        "as_tensor",
        lambda value, **_: as_tensor(value),
        {"copies"},
    ),
    "tensor shares": (
        MODULE,
        "tensor",
        replaced_when(new_tensor, lambda v: isinstance(v, np.ndarray), from_numpy),
        {"copies"},
    ),
    "tensor takes no scalar": (
        MODULE,
        "tensor",
        replaced_when(
            new_tensor,
            lambda v: isinstance(v, np.float32),
            raises("Could not infer dtype of numpy.float32"),
        ),
        {"scalars"},
    ),
    "tensor widens a scalar": (
        MODULE,
        "tensor",
        replaced_when(new_tensor, lambda v: isinstance(v, np.int16), lambda v: new_tensor(int(v))),
        {"scalars"},
    ),
    "clone shares": (TENSOR, "clone", lambda t, **_: t, {"copies"}),
    "frombuffer copies": (
        MODULE,
        "frombuffer",
        with_result_changed(frombuffer, clone),
        {"frombuffer"},
    ),
    "from_dlpack copies": (
        MODULE,
        "from_dlpack",
        with_result_changed(from_dlpack, clone),
        {"dlpack_import"},
    ),
    "from_dlpack capsule copies": (
        DLPACK,
        "from_dlpack",
        with_result_changed(from_dlpack, clone),
        {"dlpack_import"},
    ),
    "from_dlpack drops read-only data": (
        MODULE,
        "from_dlpack",
        replaced_when(
            from_dlpack,
            lambda a: not a.flags.writeable,
            lambda a: torch.zeros(a.shape, dtype=torch.float32),
        ),
        {"readonly_dlpack"},
    ),
    "numpy copies": (
        TENSOR,
        "numpy",
        with_result_changed(to_numpy, lambda a: a.copy()),
        {"to_numpy"},
    ),
    "numpy packs views": (
        TENSOR,
        "numpy",
        with_result_changed(to_numpy, lambda a: np.ascontiguousarray(a).reshape(a.shape)),
        {"layouts_to_numpy"},
    ),
    "numpy loses the sign of zero": (
        TENSOR,
        "numpy",
        with_result_changed(to_numpy, positive_zeros),
        {"dtypes_to_numpy"},
    ),
    "numpy in foreign bytes": (
        TENSOR,
        "numpy",
        with_result_changed(
            to_numpy, lambda a: a.view(a.dtype.newbyteorder()) if a.dtype == np.int16 else a
        ),
        {"dtypes_to_numpy"},
    ),
    "numpy takes anything": (TENSOR, "numpy", numpy_of_anything, {"refuses_tensors"}),
    "numpy is not available": (
        TENSOR,
        "numpy",
        raises("Numpy is not available"),
        {"to_numpy", "layouts_to_numpy", "dtypes_to_numpy", "copies"},
    ),
    "__array__ copies": (TENSOR, "__array__", array_that_copies, {"asarray", "copy_false"}),
    "__dlpack__ copies": (
        TENSOR,
        "__dlpack__",
        lambda t, *a, **k: to_dlpack(clone(t), *a, **k),
        {"dlpack_export"},
    ),
    "numpy dangles": (TENSOR, "numpy", numpy_unbound, {"lifetime"}),
    "numpy of many copies": (
        TENSOR,
        "numpy",
        with_result_changed(to_numpy, lambda a: a.copy() if a.size > 16384 else a),
        {"to_numpy"},
    ),
    "tensor of many drops the tail": (
        MODULE,
        "tensor",
        with_result_changed(new_tensor, lambda t: without_tail(t) if t.numel() > 16384 else t),
        {"copies"},
    ),
    "int64 cut to 32 bits": (
        MODULE,
        "from_numpy",
        replaced_when(from_numpy, lambda a: a.dtype == np.int64, cut_to_32_bits),
        {"dtypes_to_torch"},
    ),
    "resize moves away": (TENSOR, "resize_", resize_by_moving, {"resize_refused"}),
    "resize refuses all": (
        TENSOR,
        "resize_",
        raises("Trying to resize storage that is not resizable"),
        {"resize_refused"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_break_of_torch_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that is wrong in one way trips the check that names it, and raises nothing."""
    owner, attribute, replacement, expected = BREAKS[name]
    monkeypatch.setattr(owner, attribute, replacement)

    assert checks_of(tripped(probe.judge(probe.observe("cpu")))) >= expected


class BrokenOperation(TorchDispatchMode):
    """Replace one operation of torch."""

    def __init__(self, operation: str, replacement: Callable[..., Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operation = operation
        self.replacement = replacement

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the operation, or its replacement."""
        call = self.replacement if func._schema.name == f"aten::{self.operation}" else func
        return call(*args, **(kwargs or {}))


def writes_beside(tensor: torch.Tensor, other: Any) -> torch.Tensor:
    """An `add_` that treats a view as if it were packed."""
    packed = tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())
    torch.Tensor.copy_(packed, packed + other)
    return tensor


@pytest.mark.parametrize(
    ("operation", "replacement", "expected"),
    [
        ("fill_", lambda t, _: t, {"from_numpy", "copies"}),
        ("add_", lambda t, _: t, {"from_numpy", "as_tensor", "layouts_to_torch"}),
        ("add_", writes_beside, {"layouts_to_torch"}),
        ("_to_copy", lambda t, **_: t, {"copies"}),
    ],
    ids=["fill_ does nothing", "add_ does nothing", "add_ writes beside", "casts share"],
)
def test_break_of_an_operation_is_seen(
    operation: str, replacement: Callable[..., Any], expected: set[str]
) -> None:
    """Writes that change nothing, or the wrong elements, are seen from the other side."""
    with BrokenOperation(operation, replacement):
        observation = probe.observe("cpu")

    assert checks_of(tripped(probe.judge(observation))) >= expected


def test_evidence_that_raises_is_a_problem() -> None:
    """What an operation raised is its problem, unless an earlier part was wrong."""

    def parts(*, wrong: bool) -> Iterator[Comparison]:
        yield fact("address", int(wrong), 0)
        raise BufferError("no")

    raised = combined("call", parts(wrong=False))
    earlier = combined("call", parts(wrong=True))

    assert raised.problem == "raised BufferError: no"
    assert (earlier.operation, earlier.problem) == ("call: address", "1 where 0 is right")


def test_evidence_of_nothing_does_not_hold() -> None:
    """A family that compared nothing is not right."""
    assert not combined("call", []).holds


def test_a_refusal_is_a_refusal_by_whatever_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any exception is a refusal, since no library promises the type of its errors."""

    def unlike(array: Any) -> torch.Tensor:
        try:
            return from_numpy(array)
        except (TypeError, ValueError) as error:
            raise RuntimeError("worded otherwise") from error

    monkeypatch.setattr(torch, "from_numpy", unlike)

    assert not tripped(probe.judge(probe.observe("cpu")))


def test_a_torch_that_shares_a_read_only_array_in_silence_is_a_warning(
    sound: probe.Observation,
) -> None:
    """Torch documents that writing to it is undefined, and does not promise the warning."""
    wrong = (FAULTS["readonly_warning"],)
    findings = probe.judge(sound.model_copy(update={"readonly_warning": wrong}))

    assert {finding.status for finding in findings if finding.status != "pass"} == {"warn"}


def test_two_warnings_for_one_array_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch does not promise how often it warns."""

    def twice(array: Any) -> torch.Tensor:
        from_numpy(array)
        return from_numpy(array)

    monkeypatch.setattr(torch, "from_numpy", twice)

    assert "readonly_warning" not in checks_of(tripped(probe.judge(probe.observe("cpu"))))

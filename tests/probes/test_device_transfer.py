"""The device_transfer probe: sound here, and each broken copy trips the check for it."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from probes.catalog import DEVICE_TRANSFER
from probes.contract import Comparison
from probes.device_transfer import dtypes, pattern, places, probe
from tests.probes import fake_device
from tests.probes.broken import Broken, large, last_byte, of, one_bit, patched, swapped, zeros
from tests.probes.verdicts import tripped

PREFIX = "device_transfer."
RIGHT = Comparison(operation="x", elements=4)
WRONG = Comparison(operation="x", elements=4, mismatches=1, first_index=(2,), xor_mask="0x1")
ON_CPU = {
    name
    for name in DEVICE_TRANSFER.checks
    if name.startswith("device_to_device")
    or name in {"first_copy", "scalars", "device_pattern", "same_device", "integrity_sum"}
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: on a busy machine several make small operations slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recorded(**changed: Comparison) -> probe.Observation:
    """The observation of a sound GPU, with some comparisons replaced."""
    sound = dict.fromkeys(DEVICE_TRANSFER.checks, RIGHT) | changed
    return probe.Observation(
        device="cuda:0",
        comparisons={name: (RIGHT, comparison) for name, comparison in sound.items()},
        bytes_per_second={"host_to_device": 25e9, "device_to_host": 24e9},
    )


def test_this_image_is_sound() -> None:
    """Every copy on this machine's CPU is right, and what cannot be judged here is skipped."""
    findings = list(probe.judge(probe.observe("cpu")))

    assert not tripped(findings)
    assert {f.id for f in findings if f.status == "pass"} == {PREFIX + name for name in ON_CPU}
    assert all("no way between" in f.message for f in findings if f.status == "skip")


@pytest.mark.parametrize("check", DEVICE_TRANSFER.checks)
def test_a_wrong_copy_trips_its_check_alone(check: str) -> None:
    """One wrong comparison trips the check of its family and no other."""
    assert tripped(probe.judge(recorded(**{check: WRONG}))) == {PREFIX + check}


@pytest.mark.parametrize("observation", [recorded(), recorded(device_pattern=WRONG)])
def test_every_check_is_yielded_in_order(observation: probe.Observation) -> None:
    """Each check of the catalogue has one finding, whatever the observation."""
    assert tuple(f.id for f in probe.judge(observation)) == DEVICE_TRANSFER.check_ids


def test_a_family_without_copies_is_no_pass() -> None:
    """A check without comparisons and without a reason fails."""
    sound = recorded()
    kept = {name: c for name, c in sound.comparisons.items() if name != "same_device"}

    assert tripped(probe.judge(sound.model_copy(update={"comparisons": kept}))) == {
        PREFIX + "same_device"
    }


def test_without_its_pattern_a_device_is_not_judged() -> None:
    """When the device's own pattern is wrong, no direction fails."""
    findings = list(probe.judge(recorded(device_pattern=WRONG, host_to_device_sizes=WRONG)))
    skipped = {f.id for f in findings if f.status == "skip"}

    assert tripped(findings) == {PREFIX + "device_pattern"}
    assert skipped == set(DEVICE_TRANSFER.check_ids) - {
        PREFIX + "device_pattern",
        PREFIX + "scalars",
    }


def test_failures_say_what_to_do() -> None:
    """Each failing check has a hint that names its direction, and drains the node."""
    for name in DEVICE_TRANSFER.checks:
        bad = [f for f in probe.judge(recorded(**{name: WRONG})) if f.status == "fail"]

        assert bad[0].hint
        assert bad[0].action == "drain"
        for direction, words in (("host_to_device", "into the"), ("device_to_host", "out of the")):
            if name.startswith(direction):
                assert words in bad[0].hint


def test_rates_are_measured_on_devices_only() -> None:
    """A GPU has a rate for each direction; the CPU has none."""
    rates = {m.name: (m.value, m.unit) for m in probe.measure(recorded())}

    assert rates == {
        "host_to_device_bytes_per_second": (25e9, "bytes_per_second"),
        "device_to_host_bytes_per_second": (24e9, "bytes_per_second"),
    }
    assert not list(probe.measure(probe.observe("cpu")))


def test_a_passing_observation_is_small() -> None:
    """All of it fits a report: 20 KiB at most."""
    assert len(probe.observe("cpu").model_dump_json(exclude_defaults=True)) < 20 * 1024


def test_no_false_alarm() -> None:
    """Thirty runs, a few of them on two threads: nothing trips."""
    for turn in range(30):
        torch.set_num_threads(2 if turn % 10 == 9 else 1)

        assert not tripped(probe.judge(probe.observe("cpu"))), turn


def test_a_thread_of_its_own_sees_the_same() -> None:
    """The probe does not depend on the main thread."""
    observations: list[probe.Observation] = []
    thread = threading.Thread(target=lambda: observations.append(probe.observe("cpu")))
    thread.start()
    thread.join(60)

    assert not tripped(probe.judge(observations[0]))


def truncated(out: torch.Tensor, *args: Any) -> torch.Tensor:
    """Round to bfloat16 by cutting bits off."""
    source = next((x for x in reversed(args) if isinstance(x, torch.Tensor)), out)
    if out.dtype == torch.bfloat16 and source.dtype == torch.float32:
        cut = source.contiguous().view(torch.int32).bitwise_right_shift(16).to(torch.int16)
        out.view(torch.int16).copy_(cut)
    return out


def not_into_strided(func: Any, into: torch.Tensor, *rest: Any, **kwargs: Any) -> Any:
    """Do not write into a destination with gaps or another order."""
    return func(into, *rest, **kwargs) if into.is_contiguous() else into


def in_memory_order(func: Any, into: torch.Tensor, source: torch.Tensor, *rest: Any) -> Any:
    """Copy a transposed source in the order of its memory."""
    if source.dim() == 2 and source.stride(0) == 1 and source.numel() == into.numel() > 1:
        return func(into, source.t().reshape(into.shape), *rest)
    return func(into, source, *rest)


def refuses_complex(func: Any, into: torch.Tensor, *rest: Any, **kwargs: Any) -> Any:
    """Raise for one dtype."""
    if into.dtype == torch.complex128:
        raise RuntimeError("no kernel image is available")
    return func(into, *rest, **kwargs)


def one_past(func: Any, into: torch.Tensor, *rest: Any, **kwargs: Any) -> Any:
    """Write the byte after the destination too."""
    made = func(into, *rest, **kwargs)
    whole = torch.empty(0, dtype=torch.uint8).set_(into.untyped_storage())
    end = (into.storage_offset() + into.numel()) * into.element_size()
    if into.is_contiguous() and into.dtype == torch.uint8 and end < whole.numel():
        whole[end].fill_(3)
    return made


def copies_unasked(*, asked: bool) -> Callable[..., Any]:
    """A to() that always copies (`asked`), or only where it must."""

    def to(x: torch.Tensor, *args: Any, copy: bool = False, **options: Any) -> Any:
        return TO(x, *args, copy=asked, **options)

    return to


FIRST = [True]


def first_only(out: torch.Tensor, *_: Any) -> torch.Tensor:
    """Spoil the first copy alone."""
    return one_bit(out) if FIRST and FIRST.pop() else out


TENSOR: Any = torch.Tensor
TO, CLONE, CONTIGUOUS = TENSOR.to, TENSOR.clone, TENSOR.contiguous

#: Break of torch -> the check that names it.
BREAKS: dict[str, tuple[Callable[[], Any], str]] = {
    "clone: a bit": (lambda: Broken("clone", one_bit), "device_to_device_sizes"),
    "clone: zeros": (lambda: Broken("clone", zeros), "device_to_device_layouts"),
    "clone: last byte": (lambda: Broken("clone", last_byte), "device_to_device_dtypes"),
    "clone: words swapped": (lambda: Broken("clone", swapped), "integrity_sum"),
    "clone: large only": (lambda: Broken("clone", large(one_bit)), "device_to_device_sizes"),
    "clone: float16 only": (
        lambda: Broken("clone", of(torch.float16, one_bit)),
        "device_to_device_dtypes",
    ),
    "clone: an alias": (
        lambda: patched(clone=lambda x, **_: x.view(x.shape)),
        "same_device",
    ),
    "copy_: nothing": (
        lambda: Broken("copy_", lambda _, into, *__: into, instead=True),
        "device_to_device_sizes",
    ),
    "copy_: a bit, large only": (
        lambda: Broken("copy_", large(one_bit)),
        "device_to_device_sizes",
    ),
    "copy_: one byte too many": (
        lambda: Broken("copy_", one_past, instead=True),
        "device_to_device_sizes",
    ),
    "copy_: not into strides": (
        lambda: Broken("copy_", not_into_strided, instead=True),
        "device_to_device_layouts",
    ),
    "copy_: in memory order": (
        lambda: Broken("copy_", in_memory_order, instead=True),
        "device_to_device_layouts",
    ),
    "copy_: bfloat16 cut off": (lambda: Broken("copy_", truncated), "device_to_device_converts"),
    "copy_: complex128 raises": (
        lambda: Broken("copy_", refuses_complex, instead=True),
        "device_to_device_dtypes",
    ),
    "to: bfloat16 cut off": (lambda: Broken("_to_copy", truncated), "device_to_device_converts"),
    "to: a bit": (lambda: Broken("_to_copy", one_bit), "first_copy"),
    "to: the first copy only": (lambda: Broken("_to_copy", first_only), "first_copy"),
    "to: copy=True ignored": (
        lambda: patched(to=copies_unasked(asked=False)),
        "same_device",
    ),
    "to: always a copy": (
        lambda: patched(to=copies_unasked(asked=True)),
        "same_device",
    ),
    "contiguous: always a copy": (
        lambda: patched(contiguous=lambda x, **k: CLONE(CONTIGUOUS(x, **k))),
        "same_device",
    ),
    "item: off by one": (
        lambda: Broken("_local_scalar_dense", lambda out, *_: out + 1),
        "scalars",
    ),
    "tolist: reversed": (lambda: patched(tolist=lambda x: x.numpy()[::-1].tolist()), "scalars"),
    "sum: never sees anything": (lambda: Broken("sum", zeros), "device_pattern"),
    "ne: always equal": (lambda: Broken("ne", zeros), "device_pattern"),
    "arange: off by one": (lambda: Broken("arange", lambda out, *_: out.add_(1)), "device_pattern"),
    "mul: one element": (lambda: Broken("mul", large(one_bit)), "device_pattern"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_a_break_of_torch_is_named(name: str) -> None:
    """Torch broken below `observe` trips the check that says what is broken."""
    broken, check = BREAKS[name]
    FIRST[:] = [True]
    with broken():
        observation = probe.observe("cpu")

    assert PREFIX + check in tripped(probe.judge(observation))


def test_raising_costs_only_its_operation() -> None:
    """An operation that raises fails its own check and no other."""
    with Broken("copy_", refuses_complex, instead=True):
        findings = list(probe.judge(probe.observe("cpu")))
    finding = next(f for f in findings if f.id == PREFIX + "device_to_device_dtypes")

    assert tripped(findings) == {finding.id}
    assert "complex128" in finding.message
    assert "no kernel image" in finding.message


def test_out_of_memory_escapes() -> None:
    """Out of memory is no wrong copy: the worker reports it."""

    def gone(*_: Any) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with Broken("clone", gone), pytest.raises(torch.cuda.OutOfMemoryError):
        probe.observe("cpu")


def test_pattern_is_the_same_from_both_sides() -> None:
    """NumPy and torch make the same integers; they hold every special value of a float."""
    words = pattern.RAMP_WORDS + 5000
    array = pattern.numpy_pattern(words)
    halves, singles, doubles = (array.view(kind) for kind in ("f2", "f4", "f8"))

    assert np.array_equal(pattern.torch_pattern(words, "cpu").numpy(), array)
    for values in (halves, singles, doubles):
        assert np.isinf(values).sum() >= 2
        assert np.isnan(values).sum() > 2
        assert ((values == 0) & np.signbit(values)).any()
        assert ((values != 0) & (np.abs(values) < np.finfo(values.dtype).tiny)).any()
    assert len(np.unique(array[pattern.RAMP_WORDS :])) == 5000


@pytest.mark.parametrize("size", [1, 2, 3, 255, 4097, 2**20 + 3])
@pytest.mark.parametrize("kind", [np.uint8, np.int32])
def test_digests_agree_and_see_a_swap(size: int, kind: type[np.generic]) -> None:
    """Torch's and NumPy's digests are equal, and two swapped elements change it."""
    array = pattern.numpy_pattern(2**20 + pattern.RAMP_WORDS)[::-1].copy().view(kind)[:size].copy()
    right = places.digest_by_numpy(array)
    tensor = torch.from_numpy(array.copy())

    assert places.digest(tensor) == right
    if size > 2:
        tensor[[0, size - 1]] = tensor[[size - 1, 0]]

        assert (places.digest(tensor) == right) == (array[0] == array[-1])
        assert places.digest(tensor)[1] == right[1]


def test_rounding_to_bfloat16_is_to_nearest_even() -> None:
    """Ties go to the even neighbour, by hand: 1 + 2^-8 down, 1 + 3*2^-8 up."""
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-16, -2.5], dtype=np.float32)

    assert dtypes.rounded_to_bfloat16(values).tolist() == [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0xC020]


@pytest.fixture(scope="module")
def on_device() -> dict[str, set[str]]:
    """Checks tripped on the fake device, by fault: a process of its own, once."""
    return fake_device.run("device_transfer")


@pytest.mark.slow
def test_a_sound_device_trips_nothing(on_device: dict[str, set[str]]) -> None:
    """All three directions of the unchanged fake device are right."""
    assert on_device["sound"] == set()


#: Direction -> checks that see a fault in every copy, beside the direction's own four.
ALWAYS = {
    "host_to_device": {
        *("first_copy", "integrity_sum", "host_to_device_pinned", "pinned_shares"),
        *("both_at_once", "to_device_moves"),
    },
    "device_to_host": {
        *("first_copy", "integrity_sum", "device_to_host_pinned", "both_at_once"),
        *("scalars", "to_host_copies"),
    },
    "device_to_device": {"integrity_sum", "same_device"},
}
FAMILIES = ("sizes", "dtypes", "layouts", "converts")


@pytest.mark.slow
@pytest.mark.parametrize("direction", ALWAYS)
def test_the_bad_direction_is_named(direction: str, on_device: dict[str, set[str]]) -> None:
    """A fault of one direction trips that direction's checks, and no other direction's."""
    own = {f"{direction}_{family}" for family in FAMILIES}

    assert on_device[f"{direction}: one bit"] == {PREFIX + name for name in own | ALWAYS[direction]}
    for fault, found in on_device.items():
        if fault.startswith(direction):
            others = {name for name in ALWAYS if name != direction}
            named = {id_ for id_ in found if id_.removeprefix(PREFIX).startswith(tuple(others))}

            assert found, fault
            assert not named, fault


@pytest.mark.slow
@pytest.mark.parametrize("direction", ALWAYS)
def test_narrow_faults_are_seen(direction: str, on_device: dict[str, set[str]]) -> None:
    """Faults of the first copy, of large ones, of one dtype and beside a copy trip their checks."""
    sizes = PREFIX + f"{direction}_sizes"
    between_two = direction != "device_to_device"

    assert on_device[f"{direction}: first copy only"] == {
        PREFIX + "first_copy" if between_two else sizes
    }
    assert {sizes, PREFIX + "integrity_sum"} <= on_device[f"{direction}: large copies only"]
    assert on_device[f"{direction}: float16 only"] == {
        PREFIX + f"{direction}_{family}" for family in ("dtypes", "converts")
    }
    assert on_device[f"{direction}: a byte beside"] == {sizes}


@pytest.mark.slow
def test_an_event_that_does_not_wait_is_seen(on_device: dict[str, set[str]]) -> None:
    """A copy to the host read before it is there trips the pinned checks alone."""
    assert on_device["events do not wait"] == {
        PREFIX + "device_to_host_pinned",
        PREFIX + "both_at_once",
    }


@pytest.mark.slow
def test_every_check_is_tripped_by_a_broken_torch(on_device: dict[str, set[str]]) -> None:
    """Every check is tripped by a fault of torch, not only by an edited observation."""
    named = {PREFIX + check for _, check in BREAKS.values()}

    assert named.union(*on_device.values()) == set(DEVICE_TRANSFER.check_ids)

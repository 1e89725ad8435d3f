"""A second copy from the device tells what was wrong there from what was spoilt on the way."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from probes.kit import second_read
from probes.kit.gradients import host
from probes.kit.references import compare

Array = npt.NDArray[Any]

RIGHT = np.array([1.0, 2.0], np.float32)
WRONG = np.array([1.0, 3.0], np.float32)
OTHER = np.array([7.0, 2.0], np.float32)
#: A tensor of a device that holds nothing: what its copies give is said by a function.
ON_DEVICE = torch.empty(2, device="meta")


def copies(*arrays: Array) -> Callable[[torch.Tensor], Array]:
    """A function that gives one array after the other."""
    left: Iterator[Array] = iter(arrays)
    return lambda _: np.array(next(left))


@pytest.mark.parametrize(
    ("second", "told"),
    [(WRONG, "same"), (RIGHT, "right"), (OTHER, "different")],
    ids=["wrong there", "spoilt on the way", "spoilt anew"],
)
@pytest.mark.parametrize("allowed", [None, 0.5])
def test_a_second_read_is_told(second: Array, told: str, allowed: float | None) -> None:
    """Whatever it is, the first read was wrong."""
    first = second_read.copied(ON_DEVICE, copies(WRONG, second))
    found = compare("op", first, RIGHT, allowed)

    assert found.pattern is not None
    assert found.pattern.second_read == told
    assert (found.holds, found.mismatches, found.observed) == (False, 1, 3.0)


def test_what_is_right_is_read_once() -> None:
    """A second copy costs nothing where all is well."""
    first = second_read.copied(ON_DEVICE, copies(RIGHT))  # a second call would raise

    assert compare("op", first, RIGHT).holds


@pytest.mark.parametrize("read", ["on the CPU", "gone", "written", "another array", "broken"])
def test_where_there_is_no_second_read(read: str) -> None:
    """On the CPU, of a tensor that nobody keeps or that was written since, of what was computed."""
    tensor = torch.zeros(2, device="cpu" if read == "on the CPU" else "meta")
    broken = read == "broken"

    def raising(_: torch.Tensor) -> Array:
        if reads:
            raise RuntimeError("CUDA error: unspecified launch failure")
        reads.append(WRONG)
        return np.array(WRONG)

    reads: list[Array] = []
    first = second_read.copied(tensor, raising if broken else copies(WRONG, RIGHT))
    if read == "gone":
        del tensor
    elif read == "written":
        tensor.add_(1)
    found = compare("op", first[:] if read == "another array" else first, RIGHT)

    assert found.pattern is not None
    assert found.pattern.second_read == "unknown"
    assert found.mismatches == 1


def test_nothing_is_kept_for_a_second_read() -> None:
    """Neither the tensor, which holds device memory, nor the array."""
    before = len(second_read._SOURCES)
    tensor = torch.empty(2, device="meta")
    array = second_read.copied(tensor, copies(WRONG))
    held = weakref.ref(tensor)

    assert len(second_read._SOURCES) == before + 1
    del tensor
    gc.collect()
    assert held() is None
    del array
    assert len(second_read._SOURCES) == before


def test_a_tensor_without_a_count_of_its_writes_is_not_read_again() -> None:
    """Torch does not count what is written in inference mode."""
    with torch.inference_mode():
        tensor = torch.empty(2, device="meta")
        array = second_read.copied(tensor, copies(WRONG))

    assert second_read.again(array) is None


def test_gradients_are_read_again_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """`host` makes zeros positive, in the second read as in the first."""
    monkeypatch.setattr(torch.Tensor, "cpu", lambda _: torch.tensor([-0.0, 3.0]))
    array = host(ON_DEVICE)
    second = second_read.again(array)

    assert second is not None
    assert second.tobytes() == array.tobytes() == np.array([0.0, 3.0], np.float32).tobytes()


def test_a_gradient_that_only_its_tensor_holds_is_read_again() -> None:
    """As in `host(x.grad)`: nothing in Python keeps the gradient beside it."""
    x = torch.empty(2, device="meta", requires_grad=True)
    x.sum().backward()
    array = second_read.copied(x.grad, copies(WRONG, RIGHT))  # type: ignore[arg-type]
    gc.collect()

    assert second_read.again(array) is not None

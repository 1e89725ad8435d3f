"""A backward from `root` gives the output exactly the upstream gradient that was asked for."""

import threading

import pytest
import torch

from probes.kit.gradients import integers, leaf, recording, root, tensor

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_upstream_gradient_arrives_as_it_was_given(dtype: torch.dtype) -> None:
    """The same memory, strides and values, also NaN, infinity and -0.0, which arithmetic alters."""
    x = leaf(integers((3, 4)), "cpu", dtype)
    upstream = tensor(integers((4, 3), 1), "cpu", dtype).t()  # not contiguous
    upstream[0, :3] = torch.tensor([float("nan"), float("-inf"), -0.0])
    before = upstream.clone()
    arrived: list[torch.Tensor] = []
    y = x * 1
    y.register_hook(arrived.append)

    root(y, upstream).backward()

    assert arrived[0].data_ptr() == upstream.data_ptr()
    assert arrived[0].stride() == upstream.stride() == (1, 3)
    assert torch.equal(arrived[0].isnan(), before.isnan())
    assert torch.equal(arrived[0].nan_to_num(7.0), before.nan_to_num(7.0))
    assert arrived[0][0, 2].signbit()


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 0), (2, 3, 4)])
def test_it_is_backward_with_a_gradient(shape: tuple[int, ...]) -> None:
    """The same gradients as torch's own argument for it, of outputs of any shape."""
    x, z = leaf(integers(shape, 1), "cpu"), leaf(integers(shape, 1), "cpu")
    upstream = tensor(integers(shape, 2), "cpu")

    root(x * x, upstream).backward()
    (z * z).backward(upstream)

    assert x.grad is not None
    assert z.grad is not None
    assert torch.equal(x.grad, z.grad)
    (gradient,) = torch.autograd.grad(root(z * z, upstream), z)
    assert torch.equal(gradient, z.grad)


def test_the_graph_may_be_retained_and_differentiated_again() -> None:
    """retain_graph gives the same twice; create_graph gives derivatives of the gradient."""
    x, upstream = leaf([1.0, 2.0, 3.0], "cpu"), tensor([1.0, 10.0, 100.0], "cpu")
    scalar = root(x**3, upstream)
    scalar.backward(retain_graph=True)
    scalar.backward()

    assert x.grad is not None
    assert x.grad.tolist() == [6.0, 240.0, 5400.0]  # twice 3 x^2 times upstream
    (slope,) = torch.autograd.grad(root(x**3, upstream), x, create_graph=True)
    (second,) = torch.autograd.grad(root(slope, torch.ones(3)), x)
    assert second.tolist() == [6.0, 120.0, 1800.0]  # 6 x times upstream


def test_an_output_without_a_graph_is_refused() -> None:
    """As by torch itself: nothing could be differentiated."""
    with pytest.raises(RuntimeError, match="does not require grad"):
        root(torch.ones(3), torch.ones(3)).backward()
    x = leaf([1.0, 2.0, 3.0], "cpu")
    with pytest.raises(RuntimeError, match="shape"):
        root(x * 2, torch.ones(2)).backward()


def test_threads_may_share_nothing() -> None:
    """Backward passes side by side, each with its own gradient."""
    found: dict[int, list[float]] = {}

    def run(factor: int) -> None:
        x = leaf([1.0, 2.0, 3.0], "cpu")
        for _ in range(50):
            x.grad = None
            root(x * x, torch.full((3,), float(factor))).backward()
        assert x.grad is not None
        found[factor] = x.grad.tolist()

    threads = [threading.Thread(target=run, args=(factor,)) for factor in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert found == {factor: [2.0 * factor, 4.0 * factor, 6.0 * factor] for factor in (1, 2, 3)}


def test_recording_holds_whatever_mode_is_on() -> None:
    """A library that switched gradients off leaves only its own check to fail."""
    with torch.inference_mode(), recording():
        x = leaf([1.0], "cpu")
        (x * x).backward()

    assert x.grad is not None
    with torch.no_grad():
        with recording():
            assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled()

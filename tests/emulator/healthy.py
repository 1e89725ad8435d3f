"""What a healthy accelerator does: each function asserts one property, and `trials` runs it."""

import copy
import io
import pickle
import threading
import warnings

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from probes.kit.tensors import refusal

OTHER = "fake:1"  # the current device is fake:0


def devices() -> None:
    """Torch's own interface counts two devices and has a current one."""
    assert torch.accelerator.current_accelerator() == torch.device("fake")
    assert torch.accelerator.device_count() == 2
    assert torch.accelerator.current_device_index() == 0
    torch.accelerator.set_device_index(1)
    assert torch.ones(1, device="fake").device == torch.device(OTHER)
    torch.accelerator.synchronize(torch.device("fake:0"))


def transfers() -> None:
    """Values of every type arrive on a device, on the other device and back on the host."""
    for dtype in (torch.uint8, torch.int64, torch.float16, torch.float64, torch.complex64):
        host = torch.arange(100).to(dtype)
        first = host.to("fake:0")
        assert torch.equal(first.to(OTHER).cpu(), host)
        assert first.tolist() == host.tolist()


def seeds() -> None:
    """A seed repeats the numbers of each device; each device and the CPU has its own state."""
    torch.manual_seed(5)
    kept = torch.get_rng_state()
    first = [torch.rand(8, device=device).tolist() for device in ("fake:0", OTHER)]
    F.dropout(torch.ones(100, device=OTHER))  # a kernel that takes no generator
    second = torch.rand(8, device=OTHER).tolist()
    assert torch.equal(torch.get_rng_state(), kept)
    torch.manual_seed(5)
    assert [torch.rand(8, device=device).tolist() for device in ("fake:0", OTHER)] == first
    assert second != first[1]


def dropout_repeats() -> None:
    """Dropout draws from its device's own state."""
    x = torch.ones(1000, device=OTHER)
    torch.manual_seed(3)
    first = F.dropout(x)
    other = F.dropout(x)
    torch.manual_seed(3)
    assert torch.equal(F.dropout(x), first)
    assert not torch.equal(first, other)
    assert set(first.tolist()) == {0.0, 2.0}


def generators() -> None:
    """A generator of the device has its own seeds and states; the default one does not change."""
    generator = torch.Generator(OTHER)
    default = torch.fake.get_rng_state(1)  # type: ignore[attr-defined]
    generator.manual_seed(11)
    state = generator.get_state()
    first = torch.randperm(50, generator=generator, device=OTHER).tolist()
    generator.set_state(state)
    assert torch.randperm(50, generator=generator, device=OTHER).tolist() == first
    assert sorted(first) == list(range(50))
    assert generator.initial_seed() == 11
    assert torch.equal(torch.fake.get_rng_state(1), default)  # type: ignore[attr-defined]
    with torch.random.fork_rng([1], device_type="fake"):
        inside = torch.rand(3, device=OTHER).tolist()
    assert torch.rand(3, device=OTHER).tolist() == inside


def batch_norm() -> None:
    """The statistics of a layer on the device change, though the schema does not say so."""
    layer = torch.nn.BatchNorm1d(2).to(OTHER)
    layer(torch.tensor([[1.0, 10.0], [3.0, 30.0]], device=OTHER)).sum().backward()
    assert layer.running_mean is not None
    assert torch.allclose(layer.running_mean.cpu(), torch.tensor([0.2, 2.0]))
    assert layer.num_batches_tracked is not None
    assert layer.num_batches_tracked.item() == 1


def saving() -> None:
    """What is saved on a device is loaded there, or on the host."""
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(6.0, device=OTHER)[2:]}, buffer)
    for place, wanted in ((None, OTHER), ("cpu", "cpu")):
        buffer.seek(0)
        loaded = torch.load(buffer, map_location=place, weights_only=True)["w"]
        assert str(loaded.device) == wanted
        assert loaded.tolist() == [2, 3, 4, 5]


def copies() -> None:
    """Deep copies and pickles keep device and values, and share no memory."""
    x = torch.arange(4, device=OTHER)
    made = [copy.deepcopy(x), pickle.loads(pickle.dumps(x))]  # noqa: S301 - made here
    x.zero_()
    assert [(str(copied.device), copied.tolist()) for copied in made] == [(OTHER, [0, 1, 2, 3])] * 2


def pinned() -> None:
    """Pinned memory and its views are pinned, other memory is not."""
    x = torch.arange(10).pin_memory()
    assert x.is_pinned()
    assert x[3:].is_pinned()
    assert not torch.arange(10).is_pinned()
    assert x.to(OTHER, non_blocking=True).tolist() == list(range(10))


def streams() -> None:
    """A stream is current inside its block, only on its device; events measure time."""
    stream = torch.Stream(device=OTHER)
    assert torch.accelerator.current_stream(1) != stream
    with stream:
        assert torch.accelerator.current_stream(1) == stream
        assert torch.accelerator.current_stream(0) != stream
    begin, end = (torch.Event(device=OTHER, enable_timing=True) for _ in range(2))
    begin.record(stream)
    end.record(stream)
    end.synchronize()
    assert end.query()
    assert begin.elapsed_time(end) >= 0


def views() -> None:
    """Views share their base's memory, also with another dtype or a conjugate bit."""
    base = torch.arange(12.0, device=OTHER).reshape(3, 4)
    made = [base.t(), base[1:], base.unfold(1, 2, 2), base.view(torch.int32), base.diagonal()]
    assert all(view.untyped_storage().data_ptr() == base.data_ptr() for view in made)
    base.t()[0].fill_(7)
    assert base[:, 0].tolist() == [7, 7, 7]
    number = torch.tensor([1 + 2j], device=OTHER)
    torch.view_as_real(number)[0, 1] = 5
    assert number.conj().tolist() == [1 - 5j]
    assert number.conj().imag.tolist() == [-5]


def outputs() -> None:
    """An output argument is written and resized."""
    out = torch.empty(0, device=OTHER)
    made = torch.add(torch.ones(3, 2, device=OTHER), 1, out=out)
    assert made is out
    assert out.tolist() == [[2, 2]] * 3
    values, indices = (torch.empty(0, device=OTHER, dtype=dtype) for dtype in (None, torch.int64))
    torch.max(torch.tensor([[1.0, 9.0]], device=OTHER), 1, out=(values, indices))
    assert (values.tolist(), indices.tolist()) == ([9], [1])


def second_device() -> None:
    """Results stay on their device, whichever is current."""
    x = torch.arange(1.0, 5.0, device=OTHER, requires_grad=True)
    made = [torch.combinations(x), torch.logsumexp(x, 0), torch.complex(x, x) * 1j, x.sort()[0]]
    made += [torch.where(x > 2, x, 0), F.conv1d(x.view(1, 1, 4), x.view(1, 1, 4)[..., :2])]
    assert {str(result.device) for result in made} == {OTHER}
    torch.stack([torch.view_as_real(made[2]).sum(), made[1], made[5].sum()]).sum().backward()
    assert x.grad is not None
    assert str(x.grad.device) == OTHER


def refusals() -> None:
    """Tensors of two devices are refused; scalars and indices from the host are not."""
    on_first, on_second, host = (
        torch.ones(2, device=device) for device in ("fake:0", OTHER, "cpu")
    )
    for a, b in ((on_first, on_second), (on_second, host)):
        assert "at least two devices" in refusal(lambda a=a, b=b: a + b)  # type: ignore[misc]
        assert "at least two devices" in refusal(
            lambda a=a, b=b: a.expand(2, 2) @ b  # type: ignore[misc]
        )
    assert (on_second + torch.tensor(1.0)).tolist() == [2, 2]
    assert on_second[torch.tensor([0])].tolist() == [1]


def quiet() -> None:
    """A reduced loss brings no warning."""
    x, y = torch.ones(4, 2, device=OTHER), torch.zeros(4, 2, device=OTHER)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = [F.mse_loss(x, y), F.smooth_l1_loss(x, y), F.binary_cross_entropy(x, y + 1)]
    assert [loss.item() for loss in losses] == [1, 0.5, 0]


def memory() -> None:
    """Allocated memory, also of results, is counted on its device until it is freed."""
    free = [torch.fake.mem_get_info(index)[0] for index in (0, 1)]  # type: ignore[attr-defined]
    x = torch.ones(1000, device=OTHER)
    y = x + x
    taken = free[1] - torch.fake.mem_get_info(1)[0]  # type: ignore[attr-defined]
    assert taken == 8000
    del x, y
    assert [torch.fake.mem_get_info(index)[0] for index in (0, 1)] == free  # type: ignore[attr-defined]
    assert "OutOfMemoryError" in refusal(lambda: torch.empty(1 << 31, device=OTHER))


def autocast() -> None:
    """Products have the lower precision only inside autocast."""
    x = torch.ones(4, 4, device=OTHER)
    with torch.autocast("fake", dtype=torch.bfloat16):
        inside = x @ x
    assert (inside.dtype, (x @ x).dtype) == (torch.bfloat16, torch.float32)


def backward_thread() -> None:
    """Gradients are computed in the device's own thread, and are right."""
    threads: list[int] = []
    w = torch.ones(3, 1, device=OTHER, requires_grad=True)
    w.register_hook(lambda _: threads.append(threading.get_ident()))
    (torch.tensor([[1.0, 2.0, 3.0]], device=OTHER) @ w).sum().backward()
    assert w.grad is not None
    assert w.grad.flatten().tolist() == [1, 2, 3]
    assert threads
    assert threads[0] != threading.get_ident()


def modules() -> None:
    """A model moves, learns a step and moves back."""
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 1))
    model.to(OTHER)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    model(torch.ones(1, 1, 4, 4, device=OTHER)).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.sub_(parameter.grad)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert {str(parameter.device) for parameter in model.to("cpu").parameters()} == {"cpu"}

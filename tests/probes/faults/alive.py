"""A program that checks where an injected operation is in force; prints JSON.

It runs no probe. Each case runs in a forked child of a process that imported torch.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch

from probes.faults.inject import kernels, operations, transfers


def _main_thread() -> Any:
    operations.wrong(("mm",), "zeros")
    return (torch.ones(2, 2) @ torch.ones(2, 2)).sum().item()


def _other_thread() -> Any:
    operations.wrong(("mm",), "zeros")
    found: list[float] = []
    thread = threading.Thread(
        target=lambda: found.append((torch.ones(2, 2) @ torch.ones(2, 2)).sum().item())
    )
    thread.start()
    thread.join()
    return found[0]


def _backward() -> Any:
    operations.wrong(("threshold_backward",), "zeros")
    x = torch.ones(3, requires_grad=True)
    x.relu().sum().backward()
    assert x.grad is not None
    return x.grad.sum().item()


def _backward_in_a_thread() -> Any:
    operations.wrong(("threshold_backward",), "zeros")
    x = torch.ones(3, requires_grad=True)
    thread = threading.Thread(target=lambda: x.relu().sum().backward())
    thread.start()
    thread.join()
    assert x.grad is not None
    return x.grad.sum().item()


def _repeated_calls(**when: Any) -> list[float]:
    operations.wrong(("neg",), "zeros", **when)
    return [float(torch.ones(1).neg().item()) for _ in range(6)]


def _of_types() -> list[bool]:
    operations.wrong(("neg",), "zeros", dtype="float64")
    return [bool(torch.ones(1, dtype=kind).neg().any()) for kind in (torch.float32, torch.float64)]


def _of_sizes() -> list[bool]:
    operations.wrong(("neg",), "zeros", large=True)
    return [bool(torch.ones(count).neg().any()) for count in (8, 2**18 + 1)]


def _counted(inject: Callable[..., None], **where: str) -> list[int]:
    """How many calls a fault of float64 was about: after one of float32, then one of its own."""
    inject(("neg",), "zeros", dtype="float64", **where)
    counts = []
    for dtype in (torch.float32, torch.float64):
        torch.ones(1, dtype=dtype).neg()
        counts.append(operations.TALLY.matched)
    return counts


def _raised(call: Callable[[], object]) -> str:
    try:
        call()
    except RuntimeError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _sticky() -> list[str]:
    operations.raises(("neg",), "device-side assert triggered", sticky=True)
    one = torch.ones(1)
    calls: list[Callable[[], object]] = [lambda: one + 1, one.neg, lambda: one + 1]
    return [_raised(call) for call in calls]


def _once() -> list[str]:
    operations.raises(("neg",), "no kernel image")
    one = torch.ones(1)
    calls: list[Callable[[], object]] = [one.neg, lambda: one + 1]
    return [_raised(call) for call in calls]


def _tf32() -> float:
    operations.shortened(("mm",), 10)
    return float((torch.full((1, 1), 1 + 2.0**-12) @ torch.ones(1, 1)).item())


def _lost_copy() -> list[float]:
    transfers.does_not_arrive("device_to_device", "cpu")
    return torch.zeros(2).copy_(torch.ones(2)).tolist()


def _idle() -> list[Any]:
    operations.idle()
    x = torch.arange(6.0).reshape(2, 3).requires_grad_()
    (x @ x.T).sum().backward()
    assert x.grad is not None
    return x.grad.tolist()


def _kernel_forward() -> float:
    kernels.wrong(("mm",), "zeros", device="cpu")
    return (torch.ones(2, 2) @ torch.ones(2, 2)).sum().item()


def _kernel_backward() -> float:
    """In a thread of the autograd engine, which no Python code has prepared."""
    kernels.wrong(("threshold_backward",), "zeros", device="cpu")
    x = torch.ones(3, requires_grad=True)
    x.relu().sum().backward()
    assert x.grad is not None
    return x.grad.sum().item()


def _kernel_inside() -> float:
    """Called by C++ code of torch and by no Python call: a linear layer's product."""
    kernels.wrong(("addmm",), "zeros", device="cpu")
    one = torch.ones(2, 2)
    return torch.nn.functional.linear(one, one, torch.ones(2)).sum().item()


def _kernel_turns() -> list[float]:
    kernels.wrong(("neg",), "zeros", device="cpu", after=1)
    return [float(torch.ones(1).neg().item()) for _ in range(3)]


def _kernel_raises() -> list[str]:
    kernels.raises(("neg",), "no kernel image", device="cpu")
    one = torch.ones(1)
    calls: list[Callable[[], object]] = [one.neg, lambda: one + 1]
    return [_raised(call) for call in calls]


def _kernel_of_another_device() -> float:
    kernels.wrong(("mm",), "zeros", device="cuda:0")
    return (torch.ones(2, 2) @ torch.ones(2, 2)).sum().item()


def _kernels_and_numbers() -> list[Any]:
    """What Python numbers come to beside tensors, whatever kernel is replaced."""
    kernels.idle(("mul", "add"), device="cpu")
    whole, wide = torch.tensor([1, 2]), torch.tensor([0.1], dtype=torch.float64)
    answers = (whole * 1.5, whole * 2, whole + True, wide * 0.1, wide.half() * 1.5, whole * 1j)
    return [[str(each.dtype), str(each.tolist())] for each in answers]


def _idle_kernels() -> list[Any]:
    kernels.idle(("mm", "sum", "copy_"), device="cpu")
    x = torch.arange(6.0).reshape(2, 3).requires_grad_()
    (x @ x.T).sum().backward()
    assert x.grad is not None
    return x.grad.tolist()


def _untouched() -> list[float]:
    return [float(torch.ones(1).neg().item())]


CASES: dict[str, Callable[[], Any]] = {
    "main thread": _main_thread,
    "other thread": _other_thread,
    "backward": _backward,
    "backward in a thread": _backward_in_a_thread,
    "kernel": _kernel_forward,
    "kernel of a backward": _kernel_backward,
    "kernel called by torch": _kernel_inside,
    "kernel, after 1": _kernel_turns,
    "kernel that raises": _kernel_raises,
    "kernel of another device": _kernel_of_another_device,
    "idle kernels": _idle_kernels,
    "kernels and numbers": _kernels_and_numbers,
    "always": _repeated_calls,
    "first 2": lambda: _repeated_calls(first=2),
    "after 4": lambda: _repeated_calls(after=4),
    "every 3": lambda: _repeated_calls(every=3),
    "one type": _of_types,
    "one type, counted": lambda: _counted(operations.wrong),
    "kernel of one type, counted": lambda: _counted(kernels.wrong, device="cpu"),
    "large": _of_sizes,
    "sticky": _sticky,
    "once": _once,
    "tf32": _tf32,
    "lost copy": _lost_copy,
    "idle": _idle,
    "no fault": _untouched,
}


def _in_child(case: Callable[[], Any]) -> Any:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, json.dumps(case()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(text or "null")


def main() -> None:
    """Print the result of each case, by name."""
    torch.set_num_threads(1)
    json.dump({name: _in_child(case) for name, case in CASES.items()}, sys.stdout)


if __name__ == "__main__":
    main()

"""A small model learns y = W x + b on integers, step for step as NumPy does; and is saved whole."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.references import attempted_all, compare, fact
from probes.tensors import refusal
from probes.train_eval.state import Array, integers, put

_ROWS, _IN, _OUT = 16, 4, 4
_STEPS: Final = 50
_RATE: Final = 2.0**-3
#: Steps from zero in which float64 rounds nothing: each adds 8 bits to what the parameters need.
_EXACT_STEPS: Final = 5
#: The loss after the last step, from exact rational arithmetic, rounded.
LAST_LOSS: Final = 0.015756190605662062


@dataclass(frozen=True)
class _Task:
    """Integers x (16, 4), and y = x W^T + b (16, 4)."""

    x: Array
    y: Array


def task() -> _Task:
    """The data that is learnt."""
    x = integers((_ROWS, _IN), 5, 3)
    return _Task(x, x @ integers((_OUT, _IN), 7, 8).T + integers((_OUT,), 7, 9))


def reference(steps: int) -> tuple[list[float], Array, Array]:
    """Losses before each step and after the last, weight and bias, in float64 by NumPy."""
    data, weight, bias = task(), np.zeros((_OUT, _IN)), np.zeros(_OUT)
    losses = []
    for _ in range(steps):
        error = data.x @ weight.T + bias - data.y  # (16, 4)
        losses.append(float((error**2).mean()))
        above = error * (2 / error.size)
        weight = weight - _RATE * (above.T @ data.x)
        bias = bias - _RATE * above.sum(axis=0)
    error = data.x @ weight.T + bias - data.y
    return [*losses, float((error**2).mean())], weight, bias


def _learnt(
    device: str, dtype: torch.dtype, steps: int
) -> tuple[list[float], Sequence[nn.Parameter]]:
    """The same by torch: Linear, mse_loss, backward() and a step by hand, from zero."""
    data = task()
    x, y = put(data.x, device, dtype), put(data.y, device, dtype)
    model = nn.Linear(_IN, _OUT).to(device, dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    losses = []
    for _ in range(steps):
        model.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.item()))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= _RATE * parameter.grad  # type: ignore[operator]
    with torch.no_grad():
        losses.append(float(nn.functional.mse_loss(model(x), y).item()))
    return losses, list(model.parameters())


def _widest(device: str) -> torch.dtype:
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def first_steps(device: str) -> list[Comparison]:
    """The first steps from zero are exact: every bit of weight and bias."""

    def one(dtype: torch.dtype, steps: int) -> list[Comparison]:
        _, weight, bias = reference(steps)
        _, parameters = _learnt(device, dtype, steps)
        kind = np.dtype(str(dtype).removeprefix("torch."))
        return [
            compare(f"{name}, {kind}, {steps} steps", parameter, right.astype(kind))
            for name, parameter, right in zip(
                ("weight", "bias"), parameters, (weight, bias), strict=True
            )
        ]

    found = attempted_all("float32", partial(one, torch.float32, 1))
    if _widest(device) == torch.float64:
        found += attempted_all("float64", partial(one, torch.float64, _EXACT_STEPS))
    return found


def curve(device: str) -> list[Comparison]:
    """Fifty steps: the loss falls each time, along NumPy's curve, to the known value.

    A step contracts the error, so rounding does not pile up: in float64 1e-10 of the loss is far
    above it. Without float64, 1e-2 of it: what remains after 50 steps is 1/32 of the targets' size.
    """

    def one(dtype: torch.dtype, share: float) -> list[Comparison]:
        losses, _ = _learnt(device, dtype, _STEPS)
        right = np.array(reference(_STEPS)[0])
        falls = all(after < before for before, after in zip(losses, losses[1:], strict=False))
        return [
            compare(f"{dtype}: losses", np.array(losses), right, share * right),
            fact(f"{dtype}: falls every step", falls, True),
            compare(
                f"{dtype}: last loss", np.array(losses[-1]), np.array(LAST_LOSS), share * LAST_LOSS
            ),
        ]

    dtype = _widest(device)
    return attempted_all("curve", partial(one, dtype, 1e-10 if dtype == torch.float64 else 1e-2))


def repeats(device: str) -> list[Comparison]:
    """The same training again gives the same bits."""

    def again() -> list[Comparison]:
        runs = [_learnt(device, torch.float32, _STEPS // 5) for _ in range(2)]
        return [
            compare("losses", np.array(runs[1][0]), np.array(runs[0][0])),
            *(
                compare(name, second, first.detach().cpu().numpy())
                for name, first, second in zip(("weight", "bias"), runs[0][1], runs[1][1], strict=True)
            ),
        ]

    return attempted_all("again", again)


class _Net(nn.Module):
    """Parameters, statistics, a counter, and a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(_IN, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU())
        self.head = nn.Linear(6, _OUT)
        self.register_buffer("scale", torch.tensor([0.5, -0.0, float("inf"), 1e-45]))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))  # type: ignore[no-any-return]


_KEYS: Final = (
    *("scale", "body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"),
    *("body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked"),
    *("head.weight", "head.bias"),
)


def _trained_net(device: str) -> _Net:
    net = _Net().to(device)
    with torch.no_grad():
        for seed, parameter in enumerate(net.parameters()):
            parameter.copy_(put(integers(tuple(parameter.shape), 9, seed + 1) / 8, device))
        net(put(task().x, device))  # moves the statistics
    return net


def _host_copy(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}


def saved(device: str) -> list[Comparison]:
    """A state dict saved from the device and loaded on the host: names and bits, and its answers."""

    def facts() -> list[Comparison]:
        net = _trained_net(device)
        before = _host_copy(net.state_dict())
        file = io.BytesIO()
        torch.save(net.state_dict(), file)
        file.seek(0)
        loaded = torch.load(file, map_location="cpu", weights_only=True)
        fresh = _Net()
        told = fresh.load_state_dict(loaded)
        found = [
            fact("names", tuple(loaded), _KEYS),
            fact("arrives on the host", {v.device.type for v in loaded.values()}, {"cpu"}),
            fact("all keys match", [*told.missing_keys, *told.unexpected_keys], []),
            *(compare(f"file: {name}", value, before[name]) for name, value in loaded.items()),
            *(
                compare(f"loaded: {name}", value, before[name])
                for name, value in fresh.state_dict().items()
            ),
        ]
        x = task().x
        with torch.no_grad():
            there, here = net.eval()(put(x, device)), fresh.eval()(put(x, "cpu"))
        # Sums of 6 products below 2 each, perhaps in TF32 (unit 2^-11); on the CPU the same bits.
        allowed = None if torch.device(device).type == "cpu" else 6 * 2 * 2.0**-11
        found.append(compare("answers in eval()", there, here.numpy(), allowed))
        return found

    return attempted_all("save", facts)


def loads(device: str) -> list[Comparison]:
    """Loading copies into the module's own tensors, and refuses what does not fit."""

    def facts() -> list[Comparison]:
        net = _trained_net(device)
        state = {name: value.clone() for name, value in net.state_dict().items()}
        before = _host_copy(state)
        other = _Net().to(device)
        kept = other.head.weight
        other.load_state_dict(state)
        for value in state.values():
            value.zero_()
        fewer = {name: value for name, value in state.items() if name != "head.bias"}
        more = state | {"new": torch.zeros(1)}
        wide = state | {"head.bias": torch.zeros(9)}
        lax = other.load_state_dict(net.state_dict() | {"new": torch.zeros(1)}, strict=False)
        return [
            *(
                compare(f"a copy: {name}", value, before[name])
                for name, value in other.state_dict().items()
            ),
            fact("the parameter stays itself", other.head.weight is kept, True),
            *(
                fact(f"{name} is refused", refusal(partial(_Net().load_state_dict, bad))[:12], right)
                for name, bad, right in (
                    ("a missing key", fewer, "RuntimeError"),
                    ("an unknown key", more, "RuntimeError"),
                    ("another shape", wide, "RuntimeError"),
                )
            ),
            fact("strict=False tells the rest", list(lax.unexpected_keys), ["new"]),
        ]

    return attempted_all("load", facts)


def moves(device: str) -> list[Comparison]:
    """`module.to(device)` moves the module itself: every parameter and buffer, to the bit."""

    def facts() -> list[Comparison]:
        net = _Net()
        before = _host_copy(net.state_dict())
        moved = net.to(device)
        tensors = [*net.parameters(), *net.buffers()]
        found = [
            fact("to() gives the module", moved is net, True),
            fact(
                "all of it is there", {t.device.type for t in tensors}, {torch.device(device).type}
            ),
            fact("parameters stay leaves", {p.is_leaf for p in net.parameters()}, {True}),
            *(compare(f"to: {n}", value, before[n]) for n, value in net.state_dict().items()),
        ]
        net.to(torch.float16)
        kinds = {name: value.dtype for name, value in net.state_dict().items()}
        found += [
            fact("to(float16) converts", kinds["head.weight"], torch.float16),
            fact("and not a counter", kinds["body.1.num_batches_tracked"], torch.int64),
        ]
        return found

    return attempted_all("move", facts)

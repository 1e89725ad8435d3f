"""Saving, loading and moving a module's state: every name and bit of it."""

import io
import pickle
from functools import partial
from typing import Any, Final

import torch
from torch import nn

from probes.contract import Comparison
from probes.kit.references import attempted_all, compare, fact
from probes.kit.tensors import refusal
from probes.train_eval.learning import INPUTS, OUTPUTS, training_data
from probes.train_eval.state import integers, product_unit, to_tensor


class _Net(nn.Module):
    """A module with parameters, statistics, a counter, and a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(INPUTS, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU()
        )
        self.head = nn.Linear(6, OUTPUTS)
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
            parameter.copy_(to_tensor(integers(tuple(parameter.shape), 9, seed + 1) / 8, device))
        net(to_tensor(training_data().x, device))  # changes the statistics
    return net


def _host_copy(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}


def _through_file(state: dict[str, Any]) -> dict[str, Any]:
    """The state after saving it and loading it on the host.

    Raises:
        RuntimeError: torch.load cannot read what torch.save wrote.
    """
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        loaded: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, LookupError) as error:
        raise RuntimeError(f"what torch.save wrote torch.load cannot read: {error}") from error
    return loaded


def saved(device: str) -> list[Comparison]:
    """Compare a state dict saved from the device and loaded on the host: names, bits, answers."""

    def facts() -> list[Comparison]:
        net = _trained_net(device)
        before = _host_copy(net.state_dict())
        loaded = _through_file(net.state_dict())
        fresh = _Net()
        mismatched = fresh.load_state_dict(loaded)
        comparisons = [
            fact("names", tuple(loaded), _KEYS),
            fact("arrives on the host", {v.device.type for v in loaded.values()}, {"cpu"}),
            fact("all keys match", [*mismatched.missing_keys, *mismatched.unexpected_keys], []),
            *(compare(f"file: {name}", value, before[name]) for name, value in loaded.items()),
            *(
                compare(f"loaded: {name}", value, before[name])
                for name, value in fresh.state_dict().items()
            ),
        ]
        x = training_data().x
        with torch.no_grad():
            on_device, on_host = net.eval()(to_tensor(x, device)), fresh.eval()(to_tensor(x, "cpu"))
        # Two layers of at most 6 products below 2 each. Equal bits are not promised of two calls.
        allowed = 2 * 6 * 2 * product_unit(device)
        comparisons.append(compare("answers in eval()", on_device, on_host.numpy(), allowed))
        return comparisons

    return attempted_all("save", facts, device)


def loads(device: str) -> list[Comparison]:
    """Verify that loading copies into the module's own tensors, and refuses a wrong state."""

    def facts() -> list[Comparison]:
        net = _trained_net(device)
        state = {name: value.clone() for name, value in net.state_dict().items()}
        before = _host_copy(state)
        other = _Net().to(device)
        parameter = other.head.weight
        other.load_state_dict(state)
        for value in state.values():
            value.zero_()
        fewer = {name: value for name, value in state.items() if name != "head.bias"}
        more = state | {"new": torch.zeros(1)}
        wide = state | {"head.bias": torch.zeros(9)}
        not_strict = other.load_state_dict(net.state_dict() | {"new": torch.zeros(1)}, strict=False)
        return [
            *(
                compare(f"a copy: {name}", value, before[name])
                for name, value in other.state_dict().items()
            ),
            fact("the parameter stays itself", other.head.weight is parameter, True),
            *(
                fact(
                    f"{name} is refused", bool(refusal(partial(_Net().load_state_dict, bad))), True
                )
                for name, bad in (
                    ("a missing key", fewer),
                    ("an unknown key", more),
                    ("another shape", wide),
                )
            ),
            fact("strict=False tells the rest", list(not_strict.unexpected_keys), ["new"]),
        ]

    return attempted_all("load", facts, device)


def moves(device: str) -> list[Comparison]:
    """Verify that `module.to(device)` moves the module: each parameter and buffer, to the bit."""

    def facts() -> list[Comparison]:
        net = _Net()
        before = _host_copy(net.state_dict())
        moved = net.to(device)
        tensors = [*net.parameters(), *net.buffers()]
        comparisons = [
            fact("to() gives the module", moved is net, True),
            fact(
                "all of it is there", {t.device.type for t in tensors}, {torch.device(device).type}
            ),
            fact("parameters stay leaves", {p.is_leaf for p in net.parameters()}, {True}),
            *(compare(f"to: {n}", value, before[n]) for n, value in net.state_dict().items()),
        ]
        net.to(torch.float16)
        kinds = {name: value.dtype for name, value in net.state_dict().items()}
        comparisons += [
            fact("to(float16) converts", kinds["head.weight"], torch.float16),
            fact("and not a counter", kinds["body.1.num_batches_tracked"], torch.int64),
        ]
        return comparisons

    return attempted_all("move", facts, device)

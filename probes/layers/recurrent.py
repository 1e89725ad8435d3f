"""RNN, LSTM and GRU: layers, directions, packed sequences, cells, and very many rows.

On GPUs libraries choose among several algorithms for each size; TF32, which is on by default in
cuDNN's recurrent layers, is switched off.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn.utils import rnn

from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.gradients import root, tensor
from probes.kit.layer import HALVES, compared
from probes.kit.operands import coarse, odd
from probes.kit.precision import read
from probes.kit.references import UNIT_ROUNDOFF
from probes.kit.rounding import Array, exact
from probes.kit.trial import Custom, Trial
from probes.layers.cells import GATES
from probes.layers.sequences import Network, Outputs, run

_INPUT: Final = 5


@dataclass(frozen=True)
class Setting:
    """One recurrent layer."""

    kind: str  # of `CELLS`
    hidden: int = 6
    layers: int = 1
    directions: int = 1
    projection: int = 0
    bias: bool = True
    batch_first: bool = False
    lengths: tuple[int, ...] = (3, 3, 3)  # of the sequences of the batch
    packed: bool = False

    def __str__(self) -> str:
        """What is not the default."""
        parts = [f"{self.layers} layers"] if self.layers > 1 else []
        parts += ["both directions"] if self.directions > 1 else []
        parts += [f"projected to {self.projection}"] if self.projection else []
        parts += [] if self.bias else ["no bias"]
        parts += ["batch first"] if self.batch_first else []
        parts += ["packed"] if self.packed else []
        parts += ["one step"] if max(self.lengths) == 1 else []
        return ", ".join(parts) or "one layer"

    @property
    def outputs(self) -> int:
        """The size of the hidden state."""
        return self.projection or self.hidden


_SETTINGS: Final = (
    Setting("RNN"),
    Setting("RNN relu", layers=2, directions=2, batch_first=True),
    Setting("LSTM", layers=2, batch_first=True),
    Setting("LSTM"),
    *(Setting(kind, lengths=(1, 1, 1)) for kind in ("RNN", "LSTM", "GRU")),
    Setting("LSTM", directions=2, lengths=(2, 3, 1), packed=True),
    Setting("LSTM", projection=3),
    Setting("GRU"),
    Setting("GRU", layers=2, directions=2),
    Setting("GRU", bias=False, lengths=(2, 1, 3), packed=True),
)
_CELLS: Final = (Setting("RNN"), Setting("LSTM"), Setting("GRU"))

#: Rows times steps exceed 65,535, the largest size of two of the three axes of a GPU's grid. The
#: rows repeat, so that few have to be computed for the reference.
_DISTINCT, _REPEATS, _STEPS = 61, 220, 5
_MANY: Final = tuple(
    Setting(kind, hidden=2, lengths=(_STEPS,) * _DISTINCT) for kind in ("RNN", "LSTM", "GRU")
)


def recurrent(device: str) -> Iterator[Trial]:
    """Each setting in each type, forward and backward."""
    for setting in _SETTINGS:
        for dtype in floats(device):
            if dtype in HALVES and setting.layers > 1:
                continue  # the bound on what half types lose in two layers says nothing
            body = partial(_layer, setting, dtype)
            yield _trial(setting.kind, body, dtype)


def cells(device: str) -> Iterator[Trial]:
    """RNNCell, LSTMCell and GRUCell in each type."""
    for setting in _CELLS:
        for dtype in floats(device):
            yield _trial(f"{setting.kind}Cell", partial(_cell, setting, dtype), dtype)


def many_rows(_device: str) -> Iterator[Trial]:
    """More than 65,535 rows times steps."""
    for setting in _MANY:
        yield _trial(setting.kind, partial(_many, setting), torch.float32)


def _trial(name: str, body: Any, dtype: torch.dtype) -> Trial:
    return Custom(name, body, dtype, optional_kernel=dtype in HALVES)


def units(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """The unit roundoffs of arithmetic and storage."""
    single = UNIT_ROUNDOFF[torch.float32]
    if torch.device(device).type != "cpu":
        # Functions and products of a library's persistent kernels are not specified: 4 bits.
        single *= 16
    if read(device).forced_by:  # a variable shortens products whatever torch says
        single = UNIT_ROUNDOFF[torch.bfloat16]
    if dtype in HALVES:
        return single, UNIT_ROUNDOFF[dtype]
    return (single if dtype == torch.float32 else UNIT_ROUNDOFF[dtype]), 0.0


@lru_cache(1)
def _parameters(setting: Setting) -> tuple[tuple[Array, ...], ...]:
    """The parameters of each layer and direction, in torch's order."""
    found = []
    rows = GATES[setting.kind] * setting.hidden
    for layer in range(setting.layers):
        inputs = _INPUT if layer == 0 else setting.outputs * setting.directions
        for direction in range(setting.directions):
            salt = 240 + 10 * layer + 5 * direction
            shapes: list[tuple[int, ...]] = [(rows, inputs), (rows, setting.outputs)]
            shapes += [(rows,), (rows,)] if setting.bias else []
            shapes += [(setting.projection, setting.hidden)] if setting.projection else []
            found.append(
                tuple(coarse(shape, -0.7, 0.7, salt + at) for at, shape in enumerate(shapes))
            )
    return tuple(found)


def _states(setting: Setting, batch: int) -> list[Array]:
    """The first hidden states (layers x directions, B, H) and, of an LSTM, the cells'."""
    count = setting.layers * setting.directions
    sizes = [setting.outputs, *([setting.hidden] if setting.kind == "LSTM" else ())]
    return [coarse((count, batch, size), -1, 1, 236 + at) for at, size in enumerate(sizes)]


def network(
    setting: Setting, batch: int, steps: int, unit: float, storage: float, *, zeros: bool = False
) -> Outputs:
    """The reference, forward, of `inputs` and `_states`, or of states of zeros."""
    described = Network(
        setting.kind,
        setting.layers,
        setting.directions,
        [[exact(each, unit, storage) for each in cell] for cell in _parameters(setting)],
    )
    seen = np.arange(steps)[:, None] < np.array(setting.lengths)
    first = [each * (not zeros) for each in _states(setting, batch)]
    states = [exact(each, unit, storage) for each in first]
    return run(described, exact(inputs(batch, steps), unit, storage), states, seen)


def inputs(batch: int, steps: int) -> Array:
    """(T, B, I)."""
    return coarse((steps, batch, _INPUT), -1.5, 1.5, 235)


def module_of(setting: Setting, suffix: str, device: str, dtype: torch.dtype) -> Any:
    """The module with its parameters, in one piece of memory where the library wants that."""
    name = setting.kind.partition(" ")[0]
    options: dict[str, Any] = {"bias": setting.bias}
    if setting.kind == "RNN relu":
        options["nonlinearity"] = "relu"
    if not suffix:
        options |= {
            "num_layers": setting.layers,
            "bidirectional": setting.directions > 1,
            "batch_first": setting.batch_first,
        }
        if setting.projection:
            options["proj_size"] = setting.projection
    with torch.random.fork_rng(devices=[]):  # the initial values are drawn on the host
        module = getattr(nn, name + suffix)(_INPUT, setting.hidden, **options)
    flat = [each for cell in _parameters(setting) for each in cell]
    with torch.no_grad():
        for parameter, values in zip(module.parameters(), flat, strict=True):
            parameter.copy_(torch.from_numpy(values))
    return module.to(device, dtype)


def _leaf(values: Array, device: str, dtype: torch.dtype) -> torch.Tensor:
    return tensor(values, device, dtype).requires_grad_()


def _layer(setting: Setting, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    batch, steps = len(setting.lengths), max(setting.lengths)
    label = f"{setting.kind} ({setting}, {str(dtype).removeprefix('torch.')}"
    right = network(setting, batch, steps, *units(device, dtype))
    module = module_of(setting, "", device, dtype)
    x = _leaf(inputs(batch, steps), device, dtype)  # (T, B, I)
    states = [_leaf(each, device, dtype) for each in _states(setting, batch)]
    with without_tf32():
        outputs = _called(module, setting, x, states)
        outer = [right.output, *right.states]
        for name, found, expected in zip(
            ("output", "hidden", "cell"), outputs, outer, strict=False
        ):
            yield from compared(f"{label}, {name})", found, expected, dtype)
        yield from _gradients(
            label, [x, *states, *module.parameters()], outputs, right, dtype, device
        )


def _called(
    module: Any, setting: Setting, x: torch.Tensor, states: list[torch.Tensor]
) -> list[torch.Tensor]:
    """The output (T, B, H) and the last states of a call."""
    given: Any = x.transpose(0, 1) if setting.batch_first and not setting.packed else x
    if setting.packed:
        lengths = torch.tensor(setting.lengths)
        given = rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    out, last = module(given, tuple(states) if len(states) > 1 else states[0])
    if setting.packed:
        out, _ = rnn.pad_packed_sequence(out)
    elif setting.batch_first:
        out = out.transpose(0, 1)
    return [out, *(last if isinstance(last, tuple) else (last,))]


def _gradients(
    label: str,
    leaves: list[torch.Tensor],
    outputs: list[torch.Tensor],
    right: Outputs,
    dtype: torch.dtype,
    device: str,
) -> Iterator[Comparison]:
    upstream = [odd(tuple(out.shape), 238 + at) for at, out in enumerate(outputs)]
    flat = torch.cat([out.reshape(-1) for out in outputs])
    given = tensor(np.concatenate([each.ravel() for each in upstream]), device, dtype)
    found = torch.autograd.grad(root(flat, given), leaves)
    like = right.output
    expected = right.backward([like.exactly(each) for each in upstream])
    for place, (gradient, each) in enumerate(zip(found, expected, strict=True)):
        yield from compared(f"{label}, gradient {place})", gradient, each, dtype)


def _cell(setting: Setting, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """One step: a sequence of length 1 of the layer."""
    batch = len(setting.lengths)
    label = f"{setting.kind}Cell ({str(dtype).removeprefix('torch.')}"
    right = network(setting, batch, 1, *units(device, dtype))
    module = module_of(setting, "Cell", device, dtype)
    x = _leaf(inputs(batch, 1)[0], device, dtype)
    states = [_leaf(each[0], device, dtype) for each in _states(setting, batch)]
    with without_tf32():
        last = module(x, tuple(states) if len(states) > 1 else states[0])
        outputs = list(last) if isinstance(last, tuple) else [last]
        for found, expected in zip(outputs, right.states, strict=True):
            yield from compared(f"{label}, state)", found, expected[0], dtype)
        # The output of a layer with one step is its hidden state.
        outputs = [
            torch.zeros_like(outputs[0]).expand(1, *outputs[0].shape),
            *(out[None] for out in outputs),
        ]
        leaves = [x, *states, *module.parameters()]
        upstream = [odd(tuple(out.shape), 238 + at) for at, out in enumerate(outputs)]
        flat = torch.cat([out.reshape(-1) for out in outputs[1:]])
        given = tensor(np.concatenate([each.ravel() for each in upstream[1:]]), device, dtype)
        found_gradients = torch.autograd.grad(root(flat, given), leaves)
    upstream[0] = np.zeros_like(upstream[0])
    expected_gradients = right.backward([right.output.exactly(each) for each in upstream])
    for place, (gradient, each) in enumerate(zip(found_gradients, expected_gradients, strict=True)):
        shaped = each if place > len(states) else each[0]
        yield from compared(f"{label}, gradient {place})", gradient, shaped, dtype)


def _many(setting: Setting, device: str) -> Iterator[Comparison]:
    """Rows that repeat: each repetition has the outputs and gradients of the first."""
    dtype, rows = torch.float32, _DISTINCT * _REPEATS
    label = f"{setting.kind} ({rows} rows, {_STEPS} steps"
    right = network(setting, _DISTINCT, _STEPS, *units(device, dtype))
    module = module_of(setting, "", device, dtype)
    x = _leaf(_tiled(inputs(_DISTINCT, _STEPS)), device, dtype)
    states = [_leaf(_tiled(each), device, dtype) for each in _states(setting, _DISTINCT)]
    with without_tf32():
        out = _called(module, setting, x, states)[0]
        yield from compared(f"{label}, output)", out, right.output.moved(_tiled), dtype)
        upstream = odd((_STEPS, _DISTINCT, setting.hidden), 238)
        scalar = root(out, tensor(_tiled(upstream), device, dtype))
        (gradient,) = torch.autograd.grad(scalar, [x])
    zeros = [np.zeros_like(each) for each in _states(setting, _DISTINCT)]
    expected = right.backward([right.output.exactly(each) for each in (upstream, *zeros)])[0]
    yield from compared(f"{label}, gradient)", gradient, expected.moved(_tiled), dtype)


def _tiled(values: Array) -> Array:
    """(T, B, .) with its rows repeated."""
    return np.tile(values, (1, _REPEATS, 1))


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute recurrent layers on CUDA in full float32; restore the setting afterwards."""
    owner: Any = getattr(torch.backends.cudnn, "rnn", None)
    name, full = "fp32_precision", "ieee"  # a text, or before torch 2.9 a bool
    if not hasattr(owner, name):
        owner, name, full = torch.backends.cudnn, "allow_tf32", ""
    before = getattr(owner, name)
    setattr(owner, name, full or False)
    try:
        yield
    finally:
        setattr(owner, name, before)

"""Recurrent layers as they are called: without states, a batch or gradients, padded, dropped."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn.utils import rnn

from probes.contract import Comparison
from probes.kit.gradients import host, tensor
from probes.kit.layer import compared
from probes.kit.references import compare, fact
from probes.kit.trial import Custom, Trial
from probes.layers.recurrent import Setting, inputs, module_of, network, units, without_tf32
from probes.layers.sequences import Outputs

_SINGLE: Final = torch.float32
_KINDS: Final = ("RNN", "LSTM", "GRU")
_LENGTHS: Final = (3, 2, 1)
_PADDING: Final = 9.0

#: Steps, batch and hidden size of what is dropped, and the share of it, which is half: 9 standard
#: deviations of 1,920 draws are a tenth.
_DROPPED: Final = (20, 4, 24)
_LEAST, _MOST = 0.4, 0.6
_SEED: Final = 77


def calls(_device: str) -> Iterator[Trial]:
    """Each kind in each way of calling it, and dropout between two layers."""
    for kind in _KINDS:
        for name, body in (("alone", _alone), ("sorted", _sorted), ("eval", _eval)):
            yield Custom(f"{kind} {name}", partial(body, kind), _SINGLE)
    yield Custom("RNN dropout", _dropout, _SINGLE)
    yield Custom("pad_sequence", _padded)


def _right(setting: Setting, device: str) -> Outputs:
    """The reference with states of zeros."""
    batch, steps = len(setting.lengths), max(setting.lengths)
    return network(setting, batch, steps, *units(device, _SINGLE), zeros=True)


def _alone(kind: str, device: str) -> Iterator[Comparison]:
    """One sequence without a batch, and without states."""
    setting = Setting(kind)
    right = _right(setting, device)
    x = tensor(inputs(3, 3)[:, 0], device)
    with without_tf32():
        out, _ = module_of(setting, "", device, _SINGLE)(x)
    yield from compared(f"{kind} alone (output)", out, right.output[:, 0], _SINGLE)


def _eval(kind: str, device: str) -> Iterator[Comparison]:
    """Two layers and directions in eval() without gradients, where dropout drops nothing."""
    setting = Setting(kind, layers=2, directions=2)
    right = _right(setting, device)
    module = module_of(setting, "", device, _SINGLE).eval()
    module.dropout = 0.5
    with without_tf32(), torch.no_grad():
        out, last = module(tensor(inputs(3, 3), device))
    hidden = last[0] if isinstance(last, tuple) else last
    yield from compared(f"{kind} eval (output)", out, right.output, _SINGLE)
    yield from compared(f"{kind} eval (hidden)", hidden, right.states[0], _SINGLE)


def _sorted(kind: str, device: str) -> Iterator[Comparison]:
    """Sequences in the order of their lengths, padded with a number to more steps than any has."""
    setting = Setting(kind, lengths=_LENGTHS)
    right = _right(setting, device)
    given = rnn.pack_padded_sequence(tensor(inputs(3, 3), device), torch.tensor(_LENGTHS))
    with without_tf32():
        out, _ = module_of(setting, "", device, _SINGLE)(given)
    found, lengths = rnn.pad_packed_sequence(out, padding_value=_PADDING, total_length=4)
    seen = np.arange(4)[:, None] < np.array(_LENGTHS)
    yield compare(f"{kind} sorted (lengths)", lengths, np.array(_LENGTHS))
    at = torch.from_numpy(seen).to(device)
    yield from compared(f"{kind} sorted (output)", found[at], right.output[seen[:3]], _SINGLE)
    padding = np.full((int((~seen).sum()), setting.hidden), _PADDING, np.float32)
    yield compare(f"{kind} sorted (padding)", found[~at], padding)


def _dropout(device: str) -> Iterator[Comparison]:
    """Between two layers that pass on what they get: half is dropped, the rest doubled."""
    steps, batch, size = _DROPPED
    module: Any = nn.RNN(size, size, 2, nonlinearity="relu", dropout=0.5, bias=False)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.eye(size) if "ih" in name else torch.zeros(size, size))
    module = module.to(device, _SINGLE)
    values = 1.0 + np.arange(steps * batch * size).reshape(_DROPPED) % 3
    torch.manual_seed(_SEED)
    with without_tf32():
        out, _ = module(tensor(values, device))
    found = host(out)
    kept = found != 0
    share = float(kept.mean())
    yield fact("RNN dropout (something is dropped)", _LEAST < share < _MOST, True)
    yield compare("RNN dropout (kept)", found, np.where(kept, 2 * values, 0).astype(np.float32))
    with without_tf32(), torch.no_grad():
        out, _ = module.eval()(tensor(values, device))
    yield compare("RNN dropout (eval)", host(out), values.astype(np.float32))


def _padded(device: str) -> Iterator[Comparison]:
    """Tokens of several lengths as one tensor, and back."""
    parts = [np.arange(1, size + 1) for size in (2, 4, 1)]
    given = [torch.from_numpy(part).to(device) for part in parts]
    right = np.full((3, 4), -1)
    for row, part in zip(right, parts, strict=True):
        row[: part.size] = part
    for first in (True, False):
        found = rnn.pad_sequence(given, batch_first=first, padding_value=-1)
        expected = right if first else right.T.copy()
        yield compare(f"pad_sequence (batch_first={first})", found, expected)
    packed = rnn.pack_sequence(given, enforce_sorted=False)
    found, _ = rnn.pad_packed_sequence(packed, batch_first=True, padding_value=-1)
    yield compare("pad_sequence (packed)", found, right)

"""GroupNorm of an input that needs no gradient, as behind a frozen backbone or a first layer.

The released torch 2.2 to 2.13 ends the process by SIGSEGV on the CPU where that input is in
channels_last: the backward writes a gradient of the input that nobody asked for. So on the CPU that
form runs in a process of its own. Accelerators cannot be used in a forked process; there it runs in
this one, and its death is told by the supervisor.
"""

import faulthandler
import os
import resource
import select
import signal
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from probes.contract import Comparison
from probes.kit.gradients import host, leaf, root, tensor
from probes.kit.layer import compared
from probes.kit.operands import odd
from probes.kit.references import UNIT_ROUNDOFF
from probes.kit.rounding import Rounded, exact
from probes.kit.trial import Custom, Trial
from probes.layers.normalisation import EPS, grouped

#: How the problems of a process begin that was ended by a signal, or that did not end.
ENDED_EARLY: Final = ("its process died by", "its process did not end")

_SHAPE, _GROUPS = (2, 4, 4, 4), 2
_FORMS: Final = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
_DANGEROUS: Final = "channels_last"
_WHERE: Final = ", in the backward of an input that needs no gradient"

#: For a backward of 128 elements in a process of its own, in seconds.
_DEADLINE_S: Final = 10


def frozen_input(device: str) -> Iterator[Trial]:
    """The gradients of weight and bias alone, of a contiguous input and of one in channels_last."""
    yield Custom("group_norm contiguous", partial(_here, "contiguous"), torch.float32)
    body = _apart if torch.device(device).type == "cpu" else _here
    yield Custom(f"group_norm {_DANGEROUS}", partial(body, _DANGEROUS), torch.float32)


def _expected() -> list[Rounded]:
    """The gradients of weight and bias."""
    layer = grouped(_SHAPE, _GROUPS)
    operands = (exact(each, UNIT_ROUNDOFF[torch.float32]) for each in layer.operands)
    output, backward = layer.reference(*operands)
    return list(backward(output.exactly(_upstream()))[1:])


def _upstream() -> Any:
    return odd(_SHAPE, 3)


def _compared(form: str, found: list[torch.Tensor]) -> Iterator[Comparison]:
    for name, gradient, right in zip(("weight", "bias"), found, _expected(), strict=True):
        yield from compared(
            f"group_norm {form} (gradient of {name})", gradient, right, torch.float32
        )


def _input(form: str, device: str) -> torch.Tensor:
    x = tensor(grouped(_SHAPE, _GROUPS).operands[0], device)
    return x.contiguous(memory_format=_FORMS[form])


def _here(form: str, device: str) -> Iterator[Comparison]:
    weight, bias = (leaf(each, device) for each in grouped(_SHAPE, _GROUPS).operands[1:])
    out = functional.group_norm(_input(form, device), _GROUPS, weight, bias, EPS)
    scalar = root(out, _given(form, device))
    yield from _compared(form, list(torch.autograd.grad(scalar, [weight, bias])))


def _given(form: str, device: str) -> torch.Tensor:
    return tensor(_upstream(), device).contiguous(memory_format=_FORMS[form])


def _apart(form: str, device: str) -> Iterator[Comparison]:
    """In a forked process, which calls the backward's kernel itself.

    The engine of autograd refuses to run in a fork of a process in which it has its own threads, as
    it has where there is an accelerator too.
    """
    operation = f"group_norm {form}"
    x, upstream = _input(form, device), _given(form, device)
    weight, bias = (tensor(each, device) for each in grouped(_SHAPE, _GROUPS).operands[1:])
    sizes = (_SHAPE[0], _SHAPE[1], _SHAPE[2] * _SHAPE[3], _GROUPS)

    def gradients() -> bytes:
        with torch.no_grad():
            _, mean, factor = torch.native_group_norm(x, weight, bias, *sizes, EPS)
            _, *found = torch.ops.aten.native_group_norm_backward(
                upstream, x, mean, factor, weight, *sizes, [False, True, True]
            )
        return b"".join(host(each).tobytes() for each in found)

    raw, ending = _forked(gradients)
    if ending:
        yield Comparison(operation=operation, problem=f"its process {ending}{_WHERE}")
        return
    values = np.frombuffer(raw, np.float32).reshape(2, _SHAPE[1])
    yield from _compared(form, [torch.from_numpy(each.copy()) for each in values])


def _forked(call: Any) -> tuple[bytes, str]:
    """What a call returns in a forked process, and how that ended where it returned nothing."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of threads that the fork does not have
        pid = os.fork()
    if pid == 0:
        _in_fork(call, writing)
    os.close(writing)
    try:
        raw = _read(reading)
        if raw is None:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(reading)
        _, status = os.waitpid(pid, 0)
    if raw is None:
        return b"", f"did not end within {_DEADLINE_S} s"
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return b"", f"died by {signal.Signals(-code).name}"
    return raw, "" if code == 0 and raw else f"ended with exit code {code}"


def _in_fork(call: Any, writing: int) -> None:
    """Write what the call returns, and leave; the kernel ends it if its parent cannot."""
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(2 * _DEADLINE_S)
        faulthandler.disable()  # its report would look like one of the probe
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(writing, call())
        code = 0
    finally:
        os._exit(code)


def _read(reading: int) -> bytes | None:
    """All that is written, which fits into a pipe; None where the end does not come in time."""
    raw = b""
    while select.select([reading], [], [], _DEADLINE_S)[0]:
        part = os.read(reading, 65536)
        if not part:
            return raw
        raw += part
    return None

"""A device on host memory, in Python: torch sees its tensors on `fake:0`, each copy can be broken.

`main` runs the device_transfer probe on `fake:0` once a fault and prints, as JSON, which
checks each fault tripped. It needs a process of its own, since registering a device is for good.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_map

from probes.device_transfer import probe as device_transfer
from tests.probes.verdicts import tripped

NAME = "fake"

Fault = Callable[[torch.Tensor], None]  # spoils a copy, in place, where it arrived


class Machine:
    """What the device does: faults a direction, and copies queued until somebody waits."""

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}
        self.queue: list[Callable[[], None]] = []
        self.events_wait = True

    def copy(self, way: str, into: torch.Tensor, source: torch.Tensor) -> None:
        """Copy, then spoil what arrived."""
        into.copy_(source)
        if way in self.faults and into.numel():
            self.faults[way](into)

    def drain(self) -> None:
        """Do everything that is queued."""
        while self.queue:
            self.queue.pop(0)()


MACHINE = Machine()
COPIES = {"aten::copy_", "aten::_to_copy", "aten::clone"}


class FakeTensor(torch.Tensor):
    """A tensor of the device; `raw` is its memory, a tensor on the host with the same strides."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> Any:  # noqa: ANN001 - no Self in Python 3.10
        """Wrap host memory."""
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(f"{NAME}:0"),
        )
        made.raw = raw
        return made

    def tolist(self) -> Any:  # torch's own reads the memory of a subclass, which has none
        """Read the numbers by a copy to the host."""
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:  # same
        """Refuse, as torch does for every device, or copy first."""
        if not force:
            raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy")
        return self.detach().cpu().numpy(force=True)

    def __reduce_ex__(self, _: object) -> Any:
        """Be saved as torch saves tensors of devices that it cannot read: by way of the host."""
        parts = (self.cpu(), self.dtype, f"{NAME}:0", self.requires_grad)
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, parts

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # as torch calls it
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Do on the host what torch wants done on the device."""
        kwargs = kwargs or {}
        name = func.overloadpacket._qualified_op_name
        if name in COPIES:
            return _copy(name, func, args, kwargs)
        MACHINE.drain()  # the stream is in order: an operation sees the copies before it
        wrappers: dict[int, FakeTensor] = {}

        def unwrap(value: Any) -> Any:
            if isinstance(value, FakeTensor):
                wrappers[id(value.raw)] = value
                return value.raw
            if isinstance(value, torch.Tensor) and value.dim():
                raise RuntimeError(f"{name}: expected all tensors on {NAME}:0, found one on cpu")
            return torch.device("cpu") if isinstance(value, torch.device) else value

        def wrap(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            return wrappers[id(value)] if id(value) in wrappers else FakeTensor(value)

        inner_args, inner_kwargs = tree_map(unwrap, args), tree_map(unwrap, kwargs)
        return tree_map(wrap, func(*inner_args, **inner_kwargs))


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.raw if isinstance(tensor, FakeTensor) else tensor


def _way(source: torch.Tensor, *, to_device: bool) -> str:
    if isinstance(source, FakeTensor):
        return "device_to_device" if to_device else "device_to_host"
    return "host_to_device"


def _copy(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if name == "aten::copy_":
        into, source = args[0], args[1]
        waits = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        way = _way(source, to_device=isinstance(into, FakeTensor))

        def work() -> None:
            MACHINE.copy(way, _raw(into), _raw(source))

        if waits and way != "device_to_device":
            MACHINE.queue.append(work)
        else:
            MACHINE.drain()
            work()
        return into
    MACHINE.drain()
    source = args[0]
    device = kwargs.pop("device", None)
    to_device = device is None or torch.device(device).type == NAME
    made = func(source.raw, **kwargs)
    way = _way(source, to_device=to_device)
    if way in MACHINE.faults and made.numel():
        MACHINE.faults[way](made)
    return FakeTensor(made) if to_device else made


class Event:
    """Waits for all that is queued; under a fault, for nothing."""

    def record(self, stream: object) -> None:
        """Mark a place in the stream."""

    def synchronize(self) -> None:
        """Wait."""
        if MACHINE.events_wait:
            MACHINE.drain()


class Stream:
    """The only stream that the device has."""

    def __init__(self, device: object) -> None:
        self.device = device


@contextmanager
def stream(made: Stream) -> Iterator[Stream]:
    """Make a stream current."""
    yield made


class Module:
    """`torch.fake`."""

    Event = Event
    Stream = Stream
    stream = staticmethod(stream)
    current_stream = Stream

    def is_available(self) -> bool:
        """Say that there is a device."""
        return True

    def is_initialized(self) -> bool:
        """Say that it runs."""
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        """Count one device."""
        return 1

    def current_device(self) -> int:
        """Name the device that there is."""
        return 0

    def synchronize(self, device: object = None) -> None:  # noqa: ARG002 - torch passes it
        """Wait for all that is queued."""
        MACHINE.drain()


def start() -> torch.library.Library:
    """Register the device with torch. Keep what comes back, or torch forgets it."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    library = torch.library.Library("aten", "IMPL")

    def on_host(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def made(*sizes: Any, dtype: Any = None, **_: Any) -> torch.Tensor:
            wrapped: torch.Tensor = FakeTensor(make(*sizes, dtype=dtype))
            return wrapped

        return made

    library.impl("empty.memory_format", on_host(torch.empty), "PrivateUse1")
    library.impl("empty_strided", on_host(torch.empty_strided), "PrivateUse1")
    for overload in ("arange", "arange.start", "arange.start_step"):
        library.impl(overload, on_host(torch.arange), "PrivateUse1")
    # What this torch cannot do for a device in Python: memory pinned for it, tensors of lists.
    host: Any = torch
    of_list = host.tensor

    def tensor(data: Any, *, device: Any = "cpu", **options: Any) -> torch.Tensor:
        made: torch.Tensor = of_list(data, **options)
        return made.to(device)

    # `raw` hangs on the Python object, so a parameter cannot take the data of another in place.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    host.tensor = tensor
    host.Tensor.pin_memory = torch.Tensor.clone
    host.Tensor.is_pinned = lambda _: True
    return library


def spoiled(change: Callable[[torch.Tensor], None]) -> Fault:
    """A fault that changes the bytes of what arrived."""

    def fault(into: torch.Tensor) -> None:
        raw = into.contiguous().reshape(-1).view(torch.uint8).clone()
        change(raw)
        into.copy_(raw.view(into.dtype).reshape(into.shape))

    return fault


def _bit(raw: torch.Tensor) -> None:
    raw[raw.numel() // 2] ^= 1


def _zeros(raw: torch.Tensor) -> None:
    raw.zero_()


def _short(raw: torch.Tensor) -> None:
    raw[-1] = 0xAB if raw[-1] != 0xAB else 0


def _swapped(raw: torch.Tensor) -> None:
    raw[: raw.numel() // 2 * 2] = raw[: raw.numel() // 2 * 2].reshape(-1, 2).flip(1).reshape(-1)


def _shifted(raw: torch.Tensor) -> None:
    raw.copy_(raw.roll(1))


def _first_only(fault: Fault) -> Fault:
    left = [True]

    def once(into: torch.Tensor) -> None:
        if left and left.pop():
            fault(into)

    return once


def _large_only(fault: Fault) -> Fault:
    return lambda into: fault(into) if into.numel() * into.element_size() >= 2**20 else None


def _half_only(fault: Fault) -> Fault:
    return lambda into: fault(into) if into.dtype == torch.float16 else None


def _beside(into: torch.Tensor) -> None:
    """Write one byte past the end, where there is memory."""
    whole = into.untyped_storage()
    end = (into.storage_offset() + into.numel()) * into.element_size()
    if into.is_contiguous() and end < whole.nbytes():
        torch.empty(0, dtype=torch.uint8).set_(whole)[end] = 7


FAULTS: dict[str, Callable[[], Fault]] = {
    "one bit": lambda: spoiled(_bit),
    "first copy only": lambda: _first_only(spoiled(_bit)),
    "large copies only": lambda: _large_only(spoiled(_bit)),
    "float16 only": lambda: _half_only(spoiled(_bit)),
    "a byte beside": lambda: _beside,
}

#: What every copy of a direction can do to all its bytes; each in one direction, for time.
MORE: dict[str, Callable[[], Fault]] = {
    "host_to_device: zeros": lambda: spoiled(_zeros),
    "host_to_device: last byte": lambda: spoiled(_short),
    "device_to_host: byte order": lambda: spoiled(_swapped),
    "device_to_host: shifted by one": lambda: spoiled(_shifted),
    "device_to_device: zeros": lambda: spoiled(_zeros),
}

WAYS = ("host_to_device", "device_to_host", "device_to_device")


def trips(probe: Any = device_transfer) -> list[str]:
    """The checks that a probe's run on the device trips."""
    return sorted(tripped(probe.judge(probe.observe(NAME))))


def matrix() -> dict[str, list[str]]:
    """What each fault in each direction trips; "sound" is the device without one."""
    made = {"sound": trips()}
    each = {f"{way}: {name}": fault for way in WAYS for name, fault in FAULTS.items()}
    for name, fault in (each | MORE).items():
        MACHINE.faults = {name.partition(":")[0]: fault()}
        made[name] = trips()
    MACHINE.faults = {}
    MACHINE.events_wait = False
    made["events do not wait"] = trips()
    return made


def main(probe: str) -> None:
    """Print as JSON what the probe trips: the matrix of device_transfer, or {"sound": ...}."""
    torch.set_num_threads(1)
    library = start()
    device_transfer._DEVICE_BYTES = device_transfer._HOST_BYTES  # type: ignore[misc] # quick
    module = importlib.import_module(f"probes.{probe}.probe")
    json.dump(matrix() if module is device_transfer else {"sound": trips(module)}, sys.stdout)
    del library


def run(probe: str) -> dict[str, set[str]]:
    """What `main` prints, from a process of its own; skips the test where torch is too old."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch cannot have a device in Python")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"from tests.probes.fake_device import main; main({probe!r})"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {fault: set(found) for fault, found in json.loads(done.stdout).items()}

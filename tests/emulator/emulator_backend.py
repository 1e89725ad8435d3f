"""The entry point that torch loads: it names the fake accelerator and registers its module."""

import types
from typing import Any

import emulator_device  # type: ignore[import-not-found]  # compiled beside this file
import torch
from torch.utils import backend_registration

NAME = "fake"


def _index(device: Any = None) -> int:
    """The index of a device, which is given as a device, an index or None (the current one)."""
    if device is None:
        return int(emulator_device.current_device())
    index = device if isinstance(device, int) else torch.device(device).index
    return int(emulator_device.current_device()) if index is None else int(index)


def get_device_properties(device: Any = None) -> types.SimpleNamespace:
    """Name, UUID and memory of a device."""
    index = _index(device)
    return types.SimpleNamespace(
        name="Emulated accelerator",
        uuid=f"{index:08x}-0000-0000-0000-00000000fa4e",
        total_memory=emulator_device.memory(index)[1],
    )


def _generator(device: Any = None) -> torch.Generator:
    generator: torch.Generator = emulator_device.default_generator(_index(device))
    return generator


def manual_seed(seed: int) -> None:
    """Seed the current device."""
    _generator().manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    """Seed every device; `torch.manual_seed` calls it."""
    for index in range(emulator_device.device_count()):
        _generator(index).manual_seed(seed)


def get_rng_state(device: Any = None) -> torch.Tensor:
    """The state of a device's generator, a tensor on the host."""
    return _generator(device).get_state()


def set_rng_state(state: torch.Tensor, device: Any = None) -> None:
    """Set the state of a device's generator."""
    _generator(device).set_state(state)


def _module() -> types.ModuleType:
    module = types.ModuleType(f"torch.{NAME}")
    vars(module).update(
        device_count=emulator_device.device_count,
        is_available=lambda: emulator_device.device_count() > 0,
        is_initialized=lambda: True,
        _is_in_bad_fork=lambda: False,
        current_device=emulator_device.current_device,
        set_device=lambda device: emulator_device.set_device(_index(device)),
        device=lambda device: torch.accelerator.device_index(_index(device)),
        synchronize=lambda device=None: emulator_device.synchronize(_index(device)),
        mem_get_info=lambda device=None: emulator_device.memory(_index(device)),
        get_device_properties=get_device_properties,
        get_device_name=lambda device=None: get_device_properties(device).name,
        manual_seed=manual_seed,
        manual_seed_all=manual_seed_all,
        get_rng_state=get_rng_state,
        set_rng_state=set_rng_state,
        initial_seed=lambda: _generator().initial_seed(),
        get_amp_supported_dtype=lambda: [torch.float16, torch.bfloat16],
        Stream=torch.Stream,
        Event=torch.Event,
        stream=lambda stream: stream,  # a stream is its own context
        current_stream=lambda device=None: torch.accelerator.current_stream(_index(device)),
    )
    return module


def load() -> None:
    """Register the device; torch calls this at the end of its import (`torch.backends`)."""
    backend_registration.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _module())
    backend_registration.generate_methods_for_privateuse1_backend(for_storage=True)

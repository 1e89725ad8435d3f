"""What torch loads when it finds the fake accelerator: names the device and gives it a module."""

import types

import emulator_device
import torch

NAME = "fake"


def _index(device: object = None) -> int:
    """A device, its index or None (the current one) as an index."""
    if device is None:
        return int(emulator_device.current_device())
    if isinstance(device, int):
        return device
    index = torch.device(device).index  # type: ignore[arg-type, call-overload]
    return int(emulator_device.current_device()) if index is None else int(index)


class _Properties(types.SimpleNamespace):
    """What `get_device_properties` answers."""


def get_device_properties(device: object = None) -> _Properties:
    """Name, UUID and memory of a device."""
    index = _index(device)
    return _Properties(
        name="Emulated accelerator",
        uuid=f"{index:08x}-0000-0000-0000-00000000fa4e",
        total_memory=emulator_device.memory(index)[1],
    )


def _module() -> types.ModuleType:
    module = types.ModuleType(f"torch.{NAME}")
    module.device_count = emulator_device.device_count  # type: ignore[attr-defined]
    module.is_available = lambda: emulator_device.device_count() > 0  # type: ignore[attr-defined]
    module.is_initialized = lambda: True  # type: ignore[attr-defined]
    module._is_in_bad_fork = lambda: False  # type: ignore[attr-defined]
    module.current_device = emulator_device.current_device  # type: ignore[attr-defined]
    module.set_device = lambda device: emulator_device.set_device(  # type: ignore[attr-defined]
        _index(device)
    )
    module.synchronize = lambda device=None: emulator_device.synchronize(  # type: ignore[attr-defined]
        _index(device)
    )
    module.mem_get_info = lambda device=None: emulator_device.memory(  # type: ignore[attr-defined]
        _index(device)
    )
    module.get_device_properties = get_device_properties  # type: ignore[attr-defined]
    module.manual_seed_all = _manual_seed_all  # type: ignore[attr-defined]
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]  # type: ignore[attr-defined]
    return module


def _manual_seed_all(seed: int) -> None:
    for index in range(emulator_device.device_count()):
        emulator_device.default_generator(index).manual_seed(seed)


def load() -> None:
    """Called by torch at the end of its import, by the entry point `torch.backends`."""
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _module())
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)

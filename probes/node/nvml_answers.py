"""Asks NVML about one GPU: what it does not tell is None, and nothing is raised."""

import ctypes
import math
from typing import Any, Final

from probes.node.nvml import told

try:
    import pynvml
except ImportError:
    pynvml = None

#: Codes by which NVML says that a GPU is gone: GPU_IS_LOST, RESET_REQUIRED. Source: nvmlReturn_t.
GONE: Final = (15, 16)
_CORRUPTED_INFOROM: Final = 14
#: Field of `gpu_health.GpuHealth` -> the name of NVML's field value.
_FIELDS: Final = {
    "recovery_action": "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION",
    "memory_temperature_c": "NVML_FI_DEV_MEMORY_TEMP",
    "pcie_fatal_errors": "NVML_FI_DEV_PCIE_COUNT_FATAL_ERROR",
    "nvlink_replays": "NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY",
    "nvlink_recoveries": "NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY",
    "nvlink_crc_errors": "NVML_FI_DEV_NVLINK_ERROR_DL_CRC",
}
#: nvmlValueType_t -> the member of nvmlValue_t that holds the value.
_MEMBERS: Final = {
    0: "dVal",
    1: "uiVal",
    2: "ulVal",
    3: "ullVal",
    4: "sllVal",
    5: "siVal",
    6: "usVal",
}


class Answers:
    """Asks NVML about one GPU; remembers when it says that the GPU is gone."""

    def __init__(self, handle: object) -> None:
        """Create it for the handle that NVML gave."""
        self._handle = handle
        self.gone = ""

    def ask(self, function: str, *arguments: object) -> Any:
        """The answer of a function about the GPU; None if there is none."""
        call = getattr(pynvml, function, None)
        if call is None:
            return None
        try:
            return told(call(self._handle, *arguments))
        except pynvml.NVMLError as error:
            self._note(function, error)
        except (ValueError, TypeError, AttributeError, MemoryError):
            pass  # an older or newer module than ours, or an answer that makes no sense
        return None

    def _note(self, function: str, error: Any) -> None:
        if error.value in GONE:
            self.gone = self.gone or f"{function}: {error}"

    def filled(self, function: str, layout: str) -> Any:
        """The structure of that layout as the function fills it; None if it does not."""
        make = getattr(pynvml, layout, None)
        if make is None:
            return None
        structure = make()
        # pynvml hands it on as it is, and the library wants its address.
        return None if self.ask(function, ctypes.byref(structure)) is None else structure

    def inforom_valid(self) -> bool | None:
        """Whether the checksums of the board's InfoROM are right."""
        call = getattr(pynvml, "nvmlDeviceValidateInforom", None)
        if call is None:
            return None
        try:
            call(self._handle)
        except pynvml.NVMLError as error:
            self._note("nvmlDeviceValidateInforom", error)
            return False if error.value == _CORRUPTED_INFOROM else None
        return True

    def fields(self) -> dict[str, int]:
        """The values that NVML has by number, those that it told."""
        numbers = {name: getattr(pynvml, field, None) for name, field in _FIELDS.items()}
        known = {name: number for name, number in numbers.items() if number is not None}
        values = self.ask("nvmlDeviceGetFieldValues", list(known.values()))
        found: dict[str, int] = {}
        for name, value in zip(known, values or (), strict=False):
            member = _MEMBERS.get(int(value.valueType))
            if int(value.nvmlReturn) != 0 or member is None:
                continue
            answer = told(getattr(value.value, member))
            if answer is not None and math.isfinite(answer):
                found[name] = int(answer)
        return found

"""A recorded board in place of pynvml: the answers that NVML gave there, and its errors."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

RECORDINGS = Path(__file__).parents[1] / "golden" / "nvml"

#: Function and argument -> how the recording calls the answer.
_OTHER_NAMES = {
    "nvmlDeviceGetTemperature(0)": "temp",
    **{f"nvmlDeviceGetTemperatureThreshold({i})": f"temp_threshold({i})" for i in range(6)},
    **{f"nvmlDeviceGetNvLinkState({i})": f"nvlink_state({i})" for i in range(18)},
}


class Replay:
    """The module `pynvml` with the answers of a recording; `changes` are other answers, by name."""

    def __init__(self, recording: str, **changes: Any) -> None:
        """Read a recording of one GPU."""
        told = json.loads((RECORDINGS / recording).read_text(encoding="utf-8"))
        self._told: dict[str, Any] = {
            **told["no_argument"],
            **told["with_arguments"],
            "nvmlDeviceGetCount": 1,
            **changes,
        }
        self._fields: dict[str, Any] = {**self._told["fields"], **changes}

    def __getattr__(self, name: str) -> Any:
        """A function that answers as recorded; anything else is the module's own."""
        own: dict[str, Callable[..., Any]] = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: _answer(self._told.get("nvmlShutdown")),
            "nvmlDeviceGetCount": lambda: _answer(self._told.get("nvmlDeviceGetCount")),
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetFieldValues": self._field_values,
            "nvmlSystemGetDriverVersion": lambda: _answer(self._told["nvmlSystemGetDriverVersion"]),
        }
        if name in own:
            return own[name]
        if name.startswith("nvmlDevice") and callable(getattr(pynvml, name, None)):
            return self._function(name)
        return getattr(pynvml, name)

    def _function(self, name: str) -> Callable[..., Any]:
        def call(_handle: int, *arguments: Any) -> Any:
            if arguments and hasattr(arguments[0], "_obj"):  # an address
                return self._fill(name, arguments[0]._obj)
            given = ",".join(map(str, arguments))
            spelled = f"{name}({given})" if arguments else name
            spelled = _OTHER_NAMES.get(spelled, spelled)
            spaced = f"{name}({given.replace(',', ', ')}{',' if len(arguments) == 1 else ''})"
            return _answer(self._told.get(spelled, self._told.get(spaced, "Not Supported")))

        return call

    def _fill(self, name: str, structure: Any) -> int:
        answer = _answer(self._told.get(f"{name}/{type(structure).__name__}", "Not Supported"))
        for field, value in vars(answer).items():
            if not isinstance(value, list):
                setattr(structure, field, value)
        return 0

    def _field_values(self, _handle: int, numbers: list[int]) -> list[Any]:
        names = {getattr(pynvml, name): name for name in self._fields if hasattr(pynvml, name)}
        return [self._field(self._fields.get(names.get(number, ""), "ret 3")) for number in numbers]

    def _field(self, told: Any) -> Any:
        if isinstance(told, str):
            return SimpleNamespace(nvmlReturn=int(told.split()[1]), valueType=0, value=None)
        value = SimpleNamespace(
            uiVal=told["ui"], ulVal=told["ull"], ullVal=told["ull"], siVal=told["ui"]
        )
        return SimpleNamespace(nvmlReturn=told["ret"], valueType=told["type"], value=value)


def _answer(told: Any) -> Any:
    """What a function returns, or the error that it raises; what a function of ours answers."""
    if callable(told):
        return told()
    if told == "Not Supported":
        raise pynvml.NVMLError(3)
    if isinstance(told, str) and (error := re.match(r"error (NVMLError_\w+)", told)):
        raise getattr(pynvml, error[1])
    return SimpleNamespace(**told) if isinstance(told, dict) else told

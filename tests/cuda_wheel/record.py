"""Writes `tests/golden/cuda_errors.json`: `python -m tests.cuda_wheel.record PYTHON...`.

Each interpreter has a CUDA build of torch and our package's dependencies; the machine has no GPU.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests import fakes
from tests.cuda_wheel.machines import NVML, RECORDED, TORCH, listen

_HOW = (
    "Texts of the real torch and the real pynvml on the fake drivers of tests/fakes, no GPU "
    "involved; written by `python -m tests.cuda_wheel.record PYTHON...`. The machines are those of "
    "tests/cuda_wheel/machines.py."
)


def record(python: str, libraries: Path) -> dict[str, dict[str, Any]]:
    """What torch and pynvml of one interpreter say on each machine, by their versions."""
    torch: dict[str, dict[str, Any]] = {}
    pynvml: dict[str, str] = {}
    versions = {}
    for machine, (steering, _) in TORCH.items():
        told = versions = listen(python, libraries if steering else None, **steering)
        torch[machine] = {"error": told["error"], "warnings": told["warnings"]}
    for machine, (steering, _) in NVML.items():
        pynvml[machine] = listen(python, libraries if steering else None, **steering)["nvml"]
    return {"torch": {versions["torch"]: torch}, "pynvml": {versions["pynvml"]: pynvml}}


def main() -> None:
    """Record all interpreters named on the command line, in the place of what was recorded."""
    texts: dict[str, Any] = {"made": _HOW, "torch": {}, "pynvml": {}}
    with tempfile.TemporaryDirectory() as folder:
        libraries = fakes.build(Path(folder))
        for python in sys.argv[1:]:
            for library, versions in record(python, libraries).items():
                texts[library].update(versions)
    RECORDED.write_text(json.dumps(texts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

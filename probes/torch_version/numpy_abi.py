"""NumPy and torch read each other's memory: both directions, compared in plain Python.

torch binds NumPy once, when it is imported. A failure there shows in each of these calls, so
nothing has to be imported again. `probes.kit.references` uses the conversions that are tested here,
so the references are lists and `struct`.
"""

import struct
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from probes.contract import Action, Comparison, Finding, agree
from probes.kit.symptoms import diagnose

if TYPE_CHECKING:
    from probes.torch_version.observation import Observation

#: Name of the dtype in NumPy and torch -> format for `struct` (complex: of each part), and values.
DTYPES: Final[dict[str, tuple[str, tuple[Any, ...]]]] = {
    "bool": ("?", (True, True, False)),
    "uint8": ("B", (0, 171, 255)),
    "int8": ("b", (-128, -1, 127)),
    "int16": ("h", (-32768, 258, 32767)),
    "int32": ("i", (-(2**31), 16909060, 2**31 - 1)),
    "int64": ("q", (-(2**63), 72623859790382856, 2**63 - 1)),
    "float16": ("e", (-65504.0, 0.333251953125, 2.0**-24)),
    "float32": ("f", (-1.5, 2.0**-149, 3.0e38)),
    "float64": ("d", (0.1, -5e-324, 1.7976931348623157e308)),
    "complex64": ("f", (1.5 - 2.5j, -0.25j, 3.0 + 0j)),
    "complex128": ("d", (0.1 - 0.2j, 5e-324j, -3.0 + 0j)),
}


def _packed(name: str) -> tuple[bytes, list[Any]]:
    """The bytes of a dtype's row, and its values as `struct` reads them back from there."""
    code, values = DTYPES[name]
    parts: list[Any] = list(values)
    if name.startswith("complex"):
        parts = [part for value in values for part in (value.real, value.imag)]
    raw = struct.pack(f"={len(parts)}{code}", *parts)
    rounded: list[Any] = list(struct.unpack(f"={len(parts)}{code}", raw))
    if name.startswith("complex"):
        rounded = [complex(*rounded[i : i + 2]) for i in range(0, len(rounded), 2)]
    return raw, rounded


def _conversion(
    operation: str, count: int, call: Callable[[], object], expected: object
) -> Comparison:
    """The comparison of a conversion's result by Python's `==`; a warning counts as wrong."""
    problem = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            observed = call()
        except (RuntimeError, TypeError, ValueError, AttributeError, BufferError) as error:
            problem = f"{type(error).__name__}: {error}"[:500]
        else:
            if observed != expected:
                problem = f"expected {expected}, observed {observed}"[:500]
    if caught and not problem:
        problem = f"it warned: {caught[0].message}"[:500]
    return Comparison(operation=operation, elements=count, problem=problem)


def arrays_to_tensors() -> tuple[Comparison, ...]:
    """`torch.from_numpy` of every dtype, and of a strided array, read back element by element."""
    comparisons = []
    for name in DTYPES:
        raw, values = _packed(name)

        def convert(name: str = name, raw: bytes = raw) -> object:
            array = np.frombuffer(bytearray(raw), dtype=name)  # (3,), writable
            tensor = torch.from_numpy(array)
            return str(tensor.dtype), tuple(tensor.shape), tensor.tolist()

        comparisons.append(
            _conversion(f"from_numpy {name}", 3, convert, (f"torch.{name}", (3,), values))
        )

    def strided() -> object:
        grid = np.arange(24, dtype=np.int32).reshape(4, 6)
        return torch.from_numpy(grid[1::2, ::3]).tolist()  # (2, 2)

    comparisons.append(_conversion("from_numpy strided", 4, strided, [[6, 9], [18, 21]]))
    return tuple(comparisons)


def tensors_to_arrays() -> tuple[Comparison, ...]:
    """`.numpy()` of every dtype, and of a transposed tensor, byte by byte."""
    comparisons = []
    for name in DTYPES:
        raw, values = _packed(name)

        def convert(name: str = name, values: list[Any] = values) -> object:
            array = torch.tensor(values, dtype=getattr(torch, name)).numpy()  # (3,)
            return str(array.dtype), array.shape, array.tobytes()

        comparisons.append(_conversion(f"numpy() {name}", 3, convert, (name, (3,), raw)))

    def transposed() -> object:
        return np.asarray(torch.arange(6, dtype=torch.int16).reshape(2, 3).t()).tolist()

    comparisons.append(_conversion("asarray transposed", 6, transposed, [[0, 3], [1, 4], [2, 5]]))
    return tuple(comparisons)


def scalars_to_tensors() -> tuple[Comparison, ...]:
    """NumPy's scalars where torch takes numbers: as data, fill value, index and size."""

    def data() -> object:
        tensor = torch.tensor([np.float32(1.5), np.float32(-2.0)], dtype=torch.float32)
        return str(tensor.dtype), tensor.tolist()

    def single() -> object:
        tensor = torch.tensor(np.int64(2**40 + 1))
        return str(tensor.dtype), tensor.item()

    def fill() -> object:
        tensor = torch.full((2,), np.float32(0.25), dtype=torch.float32)  # (2,)
        tensor = tensor.mul(np.int16(3))
        return str(tensor.dtype), tensor.tolist()

    def index() -> object:
        return torch.arange(5)[np.int64(3)].item(), tuple(torch.zeros(np.int64(2), 3).shape)

    return (
        _conversion("tensor of float32 scalars", 2, data, ("torch.float32", [1.5, -2.0])),
        _conversion("tensor of an int64 scalar", 1, single, ("torch.int64", 2**40 + 1)),
        _conversion("fill and factor by scalars", 2, fill, ("torch.float32", [0.75, 0.75])),
        _conversion("index and size by int64 scalars", 2, index, (3, (2, 3))),
    )


def _finding(
    check: str, observation: "Observation", comparisons: tuple[Comparison, ...]
) -> Finding:
    problem = next((each.problem for each in comparisons if not each.holds), "")
    symptom = diagnose(problem)
    hint = "confirm with `python -c 'import torch, numpy; print(torch.__version__, "
    hint += "numpy.__version__)'`; install a NumPy that this torch was built for"
    action: Action = symptom.action if symptom else "fix_image"
    finding = agree(f"torch_version.{check}", comparisons, action=action)
    if finding.status == "pass":
        return finding
    pair = f"torch {observation.torch.version} with NumPy {observation.numpy.version}"
    changes = {"message": f"{pair}: {finding.message}", "hint": symptom.hint if symptom else hint}
    return finding.model_copy(update=changes)


def numpy_to_torch(observation: "Observation") -> Finding:
    """NumPy's arrays become tensors of the right values."""
    return _finding("numpy_to_torch", observation, observation.numpy_to_torch)


def torch_to_numpy(observation: "Observation") -> Finding:
    """NumPy reads the right bytes from torch's tensors."""
    return _finding("torch_to_numpy", observation, observation.torch_to_numpy)


def numpy_scalars(observation: "Observation") -> Finding:
    """NumPy's scalars are taken as numbers by torch."""
    return _finding("numpy_scalars", observation, observation.numpy_scalars)

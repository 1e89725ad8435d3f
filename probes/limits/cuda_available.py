"""Limits of the probe `cuda_available`."""

import json
from typing import Final, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, field_validator

from probes.contract import Frozen

#: Compute modes of a GPU, in the words of NVML.
_MODES: Final = ("default", "exclusive_thread", "prohibited", "exclusive_process")


class Limits(Frozen):
    """What is expected of this machine."""

    #: A number is a promise; "auto" (or None) expects one where the hardware is present.
    gpus: NonNegativeInt | Literal["auto"] | None = "auto"
    #: MIG instances that must be there; None expects no number.
    mig_instances: NonNegativeInt | None = None
    #: Devices that were asked for by name: each is a promise, and the rest of the node is none.
    asked: tuple[str, ...] = ()
    #: Less free GPU memory than this is told.
    free_memory_bytes: NonNegativeInt = 1024**3
    #: A first kernel slower than this was compiled on the spot, or the GPU is waking up badly.
    first_kernel_s: NonNegativeFloat = 30.0
    #: Modes that need no word; others warn, "prohibited" fails.
    compute_modes: tuple[str, ...] = ("default",)
    #: How far torch's, the driver's and NVML's sizes of the memory may lie apart.
    memory_size_tolerance: NonNegativeFloat = 0.02

    @field_validator("compute_modes", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        """Read a list that an environment variable gives as JSON, or as text with commas."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError as error:
                raise ValueError(f"{value!r} is no list in JSON: {error}") from error
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("compute_modes")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for mode in value:
            if mode not in _MODES:
                raise ValueError(f"{mode!r} is no compute mode; known: {', '.join(_MODES)}")
        return value

"""The probe's cost, its schedule and the promise of each check, without importing torch."""

import json
from typing import Final, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, field_validator

from probes.contract import BITS, MIB, Frozen, ProbeSpec

#: Compute modes of a GPU, in the words of NVML.
_MODES: Final = ("default", "exclusive_thread", "prohibited", "exclusive_process")


class Limits(Frozen):
    """What is expected of this machine."""

    #: A number is a promise; "auto" (or None) expects at least one if there is hardware.
    gpus: NonNegativeInt | Literal["auto"] | None = "auto"
    #: MIG instances that must be there; None accepts any number.
    mig_instances: NonNegativeInt | None = None
    #: Devices asked for by name: each must be usable, the rest of the node is not judged.
    asked: tuple[str, ...] = ()
    #: Less free GPU memory than this is a warning.
    free_memory_bytes: NonNegativeInt = 1024**3
    #: A slower first kernel was compiled at run time, or the GPU wakes up too slowly.
    first_kernel_s: NonNegativeFloat = 30.0
    #: Modes that pass; others are a warning, "prohibited" is a failure.
    compute_modes: tuple[str, ...] = ("default",)
    #: By what fraction the memory sizes of torch, the driver and NVML may differ.
    memory_size_tolerance: NonNegativeFloat = 0.02

    @field_validator("compute_modes", mode="before")
    @classmethod
    def _parse_list(cls, value: object) -> object:
        """Read a list that an environment variable gives as JSON, or as text with commas."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{value[:300]!r} is no list in JSON: {error}") from error
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("compute_modes")
    @classmethod
    def _check_modes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for mode in value:
            if mode not in _MODES:
                raise ValueError(f"{mode!r} is no compute mode; known: {', '.join(_MODES)}")
        return value


SPEC: Final = ProbeSpec(
    name="cuda_available",
    profile="quick",
    needs="device",
    timeout_s=60,
    interval_s=300,
    memory_bytes=16 * MIB,
    limits=Limits,
    checks={
        "device_nodes": "the GPU's device nodes open for reading and writing",
        "driver_starts": "cuInit of libcuda.so.1 succeeds",
        "nvml_answers": "NVML answers for the node and for this GPU",
        "torch_starts": "torch starts its GPU back-end, by the call that raises when it cannot",
        "is_available": "is_available() says whether the back-end really starts",
        "enough_gpus": "torch can use as many GPUs as promised, and one at least if there is one",
        "all_gpus": "every GPU on PCI that this process was given can be used: none is lost",
        "mig_instances": "as many MIG instances as promised, and some on each GPU with MIG on",
        "visible_devices": "every entry of CUDA_VISIBLE_DEVICES is a usable device",
        "counts_agree": "torch, the CUDA driver and NVML count the same devices",
        "accelerator_api": "torch.accelerator gives the same answers as the GPU's own interface",
        "kernel": "a first kernel writes exactly the right integers, and sums them",
        "first_kernel": "the first kernel comes without a long compilation",
        "identity": "torch, driver and NVML agree on name, UUID, capability and PCI address",
        "memory_size": "torch, driver and NVML agree on how much memory the GPU has",
        "memory_free": "some memory is free, or other processes account for it",
        "compute_mode": "the compute mode lets processes share the GPU",
    },
    about_node=True,
    certain={"enough_gpus": (), "all_gpus": (), "mig_instances": (), "kernel": BITS},
)

"""What must trip each check of this probe: settings that somebody changed."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection

_TF32: Final = Event(
    "float32 products that somebody shortened to TF32",
    "https://github.com/pytorch/pytorch/issues/84334",
)
_GRADIENTS: Final = Event(
    "a library that turns gradients off when it is imported",
    "https://github.com/torchmd/torchmd-net/pull/327",
)
_KERNELS: Final = Event(
    "a library that is switched off, and left so",
    "https://docs.pytorch.org/docs/stable/backends.html",
)
_ARCHITECTURE: Final = Event(
    "an architecture that is forced on an AMD GPU",
    "https://github.com/vladmandic/sdnext/issues/1805",
)


def _fault(label: str, check: str, event: Event, injector: str, arguments: dict[str, Any]) -> Fault:
    return Fault(
        name=f"torch_settings.{label}",
        kind="environment",
        where="host",
        event=event,
        inject=(Injection(f"modes.{injector}", arguments),),
        trips=(f"torch_settings.{check}",),
    )


FAULTS: Final[tuple[Fault, ...]] = (
    _fault(
        "matmul_high",
        "matmul_precision",
        _TF32,
        "calls",
        {"function": "set_float32_matmul_precision", "value": "high"},
    ),
    _fault(
        "tf32_by_variable",
        "matmul_precision",
        _TF32,
        "variable",
        {"name": "NVIDIA_TF32_OVERRIDE", "value": "1"},
    ),
    _fault(
        "bf16_by_variable",
        "matmul_precision",
        _TF32,
        "variable",
        {"name": "ONEDNN_DEFAULT_FPMATH_MODE", "value": "BF16"},
    ),
    _fault(
        "no_gradients",
        "gradients",
        _GRADIENTS,
        "calls",
        {"function": "set_grad_enabled", "value": False},
    ),
    _fault(
        "no_cudnn",
        "kernels",
        _KERNELS,
        "sets",
        {"changes": {"backends.cudnn.enabled": False}},
    ),
    _fault(
        "no_flash_attention",
        "kernels",
        _KERNELS,
        "calls",
        {"function": "backends.cuda.enable_flash_sdp", "value": False},
    ),
    _fault(
        "other_architecture",
        "variables",
        _ARCHITECTURE,
        "variable",
        {"name": "HSA_OVERRIDE_GFX_VERSION", "value": "10.3.0"},
    ),
    _fault(
        "blocking_launches",
        "variables",
        Event(
            "a variable for debugging that was left in an image",
            "https://docs.pytorch.org/docs/stable/notes/cuda.html",
        ),
        "variable",
        {"name": "CUDA_LAUNCH_BLOCKING", "value": "1"},
    ),
    Fault(
        name="torch_settings.other_fingerprint",
        kind="environment",
        where="host",
        event=Event(
            "a node whose image was changed", "https://imbue.com/research/70b-infrastructure/"
        ),
        inject=(Injection("modes.promises_fingerprint"),),
        trips=("torch_settings.fingerprint",),
    ),
)

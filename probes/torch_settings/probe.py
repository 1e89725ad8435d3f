"""The settings of torch that decide its arithmetic, as they are after the import."""

import hashlib
import json
from collections.abc import Iterator
from typing import Final

import torch
from pydantic import Field

from probes import contract
from probes.contract import Finding, Measurement, require
from probes.kit import defaults
from probes.kit.precision import UNKNOWN, answer
from probes.legible import variables
from probes.torch_settings.spec import Limits

__all__ = ["Limits", "Observation", "judge", "measure", "observe"]

_NOT_HERE: Final = UNKNOWN

#: What is asked of torch, below its name: attributes, and functions without arguments. None starts
#: a device.
QUESTIONS: Final = (
    "get_float32_matmul_precision()",
    "is_grad_enabled()",
    "is_inference_mode_enabled()",
    "backends.fp32_precision",
    "backends.cuda.matmul.fp32_precision",
    "backends.cuda.matmul.allow_tf32",
    "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_fp16_accumulation",
    "backends.cudnn.fp32_precision",
    "backends.cudnn.conv.fp32_precision",
    "backends.cudnn.rnn.fp32_precision",
    "backends.cudnn.allow_tf32",
    "backends.cudnn.enabled",
    "backends.cudnn.benchmark",
    "backends.cudnn.deterministic",
    "backends.mkldnn.enabled",
    "backends.mkldnn.matmul.fp32_precision",
    "backends.mkldnn.conv.fp32_precision",
    "backends.mkldnn.rnn.fp32_precision",
    "backends.mkldnn.deterministic",
    "backends.opt_einsum.enabled",
    "backends.cuda.flash_sdp_enabled()",
    "backends.cuda.mem_efficient_sdp_enabled()",
    "backends.cuda.math_sdp_enabled()",
    "backends.cuda.cudnn_sdp_enabled()",
    "backends.cuda.fp16_bf16_reduction_math_sdp_allowed()",
    "_C._get_cpu_allow_fp16_reduced_precision_reduction()",
    "_C._get_deterministic_fill_uninitialized_memory()",
    "_C._get_nnpack_enabled()",
    "_C._is_multithreading_enabled()",
)

#: Variables that change what torch and its libraries compute, or how.
VARIABLES: Final = (
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "HIPBLASLT_ALLOW_TF32",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "CUBLAS_EMULATE_SINGLE_PRECISION",
    "CUBLAS_EMULATE_DOUBLE_PRECISION",
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "HSA_OVERRIDE_GFX_VERSION",
    "CUDA_LAUNCH_BLOCKING",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUBLASLT_WORKSPACE_SIZE",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_HIP_ALLOC_CONF",
    "TORCH_CUDNN_V8_API_DISABLED",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "TORCH_BLAS_PREFER_HIPBLASLT",
    "TORCH_LINALG_PREFER_CUSOLVER",
    "PYTORCH_JIT",
    "TORCHDYNAMO_DISABLE",
)


class Observation(contract.Observation):
    """Settings by name, each as text; what a release does not have is said to be missing."""

    settings: dict[str, str] = Field(default_factory=dict)
    variables: dict[str, str] = Field(default_factory=dict)
    #: Defaults that the worker restores while probes run, as they were before.
    changed_defaults: dict[str, str] = Field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Twelve digits that are equal where all of this is; missing settings do not count."""
        told = {name: value for name, value in self.settings.items() if value != _NOT_HERE}
        text = json.dumps([told, self.variables, self.changed_defaults], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def observe(device: str) -> Observation:  # noqa: ARG001 - it is about the process
    """Ask torch for each setting; nothing is changed."""
    return Observation(
        settings={question: _answered(question) for question in QUESTIONS},
        variables={name: value for name, value in variables(VARIABLES).items() if value},
        changed_defaults=defaults.changed(),
    )


def _answered(question: str) -> str:
    """The answer as text; what it raises, where old and new switches are mixed."""
    path, call, _ = question.partition("()")

    def ask() -> str:
        value: object = torch
        for name in path.split("."):
            value = getattr(value, name)
        return str(value() if call and callable(value) else value)

    return answer(ask)


def judge(observation: Observation, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Yield the findings: a change is a warning, for a job may want it; a broken promise fails."""
    promised = limits.fingerprint == observation.fingerprint
    settings, variables = observation.settings, observation.variables
    yield _unchanged(
        "matmul_precision",
        [*_shortening(settings), *_forcing(variables)],
        hint="unset it, or `torch.set_float32_matmul_precision('highest')`; search "
        "sitecustomize.py, *.pth files and torch's plug-ins (entry points torch.backends)",
        wanted=promised,
    )
    modes = {"is_grad_enabled()": "True", "is_inference_mode_enabled()": "False"}
    yield _unchanged(
        "gradients",
        _others(settings, modes),
        hint="something turned it off while torch was imported, and backward() will raise: search "
        "sitecustomize.py, *.pth files and torch's plug-ins for set_grad_enabled",
        wanted=promised,
    )
    yield _unchanged(
        "kernels",
        _others(settings, dict.fromkeys(_LIBRARIES, "True")),
        hint="confirm with `python -c 'import torch; print(torch.backends.cudnn.enabled)'`, and "
        "search for what sets it",
        wanted=promised,
    )
    changing = [f"{name}={value}" for name, value in variables.items() if _matters(name, value)]
    yield _unchanged(
        "variables",
        changing,
        hint="unset it in the image or the job, unless it is wanted",
        wanted=promised,
    )
    yield require(
        "torch_settings.fingerprint",
        limits.fingerprint is None or promised,
        observation.fingerprint,
        limits.fingerprint or "any",
        message=f"the settings have the fingerprint {observation.fingerprint}, and "
        f"{limits.fingerprint} is promised",
        hint="compare the settings in the reports of both: `gpu-validator check --probe "
        "torch_settings --record FILE`",
        action="fix_image",
    )


#: Settings that are True by default, and stay so where nobody switches a kernel off.
_LIBRARIES: Final = (
    "backends.cudnn.enabled",
    "backends.mkldnn.enabled",
    "backends.cuda.flash_sdp_enabled()",
    "backends.cuda.mem_efficient_sdp_enabled()",
    "backends.cuda.math_sdp_enabled()",
)
#: Values of the new switches that shorten products of float32.
_SHORT: Final = ("tf32", "bf16", "fp16")
#: Variable -> values that leave products of float32 whole.
_WHOLE: Final = {
    "NVIDIA_TF32_OVERRIDE": ("0",),
    "HIPBLASLT_ALLOW_TF32": ("0",),
    "CUBLAS_EMULATE_SINGLE_PRECISION": ("0",),
    "DNNL_DEFAULT_FPMATH_MODE": ("STRICT",),
    "ONEDNN_DEFAULT_FPMATH_MODE": ("STRICT",),
}
_FORCES_TF32: Final = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"  # when it is 1
#: Variables of torch's that do something when they are 1, and else nothing.
_WHEN_ONE: Final = (
    "TORCH_CUDNN_V8_API_DISABLED",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "TORCH_BLAS_PREFER_HIPBLASLT",
    "TORCH_LINALG_PREFER_CUSOLVER",
    "TORCHDYNAMO_DISABLE",
)
#: Variable -> values that change nothing, where these are others than 0. To be set is enough for
#: PYTORCH_NO_CUDA_MEMORY_CACHING in most releases.
_OFF: Final[dict[str, tuple[str, ...]]] = {
    "PYTORCH_JIT": ("1", "true", "yes"),
    "PYTORCH_NO_CUDA_MEMORY_CACHING": (),
    "HSA_OVERRIDE_GFX_VERSION": (),
}
#: Variables that are told in the fingerprint alone: they change no result, and are often set.
_HARMLESS: Final = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUBLASLT_WORKSPACE_SIZE",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_HIP_ALLOC_CONF",
)


def _shortening(settings: dict[str, str]) -> Iterator[str]:
    """Yield the switches that allow shortened matrix products."""
    old = settings.get("get_float32_matmul_precision()", _NOT_HERE)
    if old in {"high", "medium"}:
        yield f"torch.get_float32_matmul_precision() is {old!r}"
    for name in ("backends.cuda.matmul", "backends.mkldnn.matmul", "backends"):
        value = settings.get(f"{name}.fp32_precision", _NOT_HERE)
        if value in _SHORT:
            yield f"torch.{name}.fp32_precision is {value!r}"
    if settings.get("backends.cuda.matmul.allow_fp16_accumulation") == "True":
        yield "torch.backends.cuda.matmul.allow_fp16_accumulation is True"


def _forcing(variables: dict[str, str]) -> Iterator[str]:
    for name, value in variables.items():
        forces = name in _WHOLE and value.upper() not in _WHOLE[name]
        if forces or (name == _FORCES_TF32 and value == "1"):
            yield f"{name}={value}"


def _matters(name: str, value: str) -> bool:
    """Whether a variable is to be told: one that is off, or of precision, is told elsewhere."""
    if name in _HARMLESS or name in _WHOLE or name == _FORCES_TF32:
        return False
    if name in _WHEN_ONE:
        return value == "1"
    return value.lower() not in _OFF.get(name, ("0",))


def _others(settings: dict[str, str], expected: dict[str, str]) -> list[str]:
    """The settings that have another value than expected; one that is missing has none."""
    return [
        f"torch.{name} is {settings[name]}"
        for name, value in expected.items()
        if settings.get(name) in {"True", "False"} and settings[name] != value
    ]


def _unchanged(check: str, changes: list[str], *, hint: str, wanted: bool) -> Finding:
    """That there are no changes, or that the site has promised them."""
    return require(
        f"torch_settings.{check}",
        not changes or wanted,
        [*changes],
        "as promised" if wanted else "torch's own",
        message="; ".join(changes),
        hint=hint,
        action="fix_image",
        otherwise="warn",
    )


def measure(observation: Observation) -> Iterator[Measurement]:
    """Yield the fingerprint as a number (48 bits, exact in float64), for monitoring to compare."""
    yield Measurement(
        name="torch_settings_fingerprint",
        value=float(int(observation.fingerprint, 16)),
        unit="fingerprint",
    )

"""Faults of processes, and the controls, which must trip no check."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection

_HANG: Final = Event(
    "a driver or kernel that never returns",
    "https://github.com/rwth-i6/returnn/issues/1756",
)
_DEATH: Final = Event(
    "a library that crashes in the middle of a computation",
    "https://github.com/pytorch/pytorch/issues/37577",
)
_SHM: Final = Event(
    "a mapped file or /dev/shm that ran out of space",
    "https://github.com/pytorch/pytorch/issues/5040",
)
_KILLED: Final = Event(
    "somebody, or the kernel, that kills the process",
    "https://docs.kernel.org/admin-guide/mm/concepts.html",
)
_EXITED: Final = Event(
    "a library that ends the process without a word",
    "https://docs.python.org/3/library/os.html#os._exit",
)
_MEMORY: Final = Event(
    "memory of the device that others hold",
    "https://docs.pytorch.org/docs/stable/notes/cuda.html#memory-management",
)
_STICKY: Final = Event(
    "a failed kernel, after which every call on the device fails",
    "https://github.com/pytorch/pytorch/issues/17425",
)
_ECC: Final = Event(
    "an uncorrectable ECC error in the device's memory",
    "https://github.com/sgl-project/sglang/issues/3204",
)

_TIMEOUT_S: Final = 1.5
_PROBE: Final = "train_eval"
#: It runs the first operation, so it is blamed when that operation kills the process.
_FIRST_CHECK: Final = f"{_PROBE}.dropout_train"


def _fault(
    name: str, event: Event, reason: Any, function: str, arguments: dict[str, Any], **fields: Any
) -> Fault:
    fields.setdefault("trips", (f"{_PROBE}.completes",))
    return Fault(
        name=f"process.{name}",
        kind="process",
        where="any",
        event=event,
        inject=(Injection(function, arguments),),
        reason=reason,
        **fields,
    )


def _kernel_fault(name: str, event: Event, reason: Any, **fields: Any) -> Fault:
    """A kernel of the device's matrix products that hangs or raises, below Python and autograd."""
    arguments = {"operators": ("mm", "addmm"), **fields.pop("arguments", {})}
    return Fault(
        name=f"kernel.{name}",
        kind="process",
        where="any",
        event=event,
        inject=(Injection(f"kernels.{name}", arguments, on_device=True),),
        reason=reason,
        trips=(f"{_PROBE}.no_mode",),  # the first check with a product
        **fields,
    )


def _signal_fault(name: str, event: Event) -> Fault:
    return _fault(
        name.lower(), event, "crashed", "processes.dies", {"name": name}, trips=(_FIRST_CHECK,)
    )


PROCESSES: Final = (
    _fault(
        "hangs",
        _HANG,
        "timeout",
        "operations.hangs",
        {"holding_the_lock": False},
        timeout_s=_TIMEOUT_S,
        trips=(_FIRST_CHECK,),
    ),
    _fault(
        "hangs_holding_the_lock",
        _HANG,
        "timeout",
        "operations.hangs",
        {"holding_the_lock": True},
        timeout_s=_TIMEOUT_S,
        trips=(_FIRST_CHECK,),
    ),
    _fault("crashes", _DEATH, "crashed", "processes.crashes", {}, trips=(_FIRST_CHECK,)),
    _signal_fault("SIGSEGV", _DEATH),
    _signal_fault("SIGABRT", _DEATH),
    _signal_fault("SIGILL", _DEATH),
    _signal_fault("SIGFPE", _DEATH),
    _signal_fault("SIGBUS", _SHM),
    _fault("sigkill", _KILLED, "internal_error", "processes.dies", {"name": "SIGKILL"}),
    _fault("leaves", _EXITED, "internal_error", "processes.leaves", {}),
    _fault(
        "memory_taken",
        _MEMORY,
        "gpu_busy",
        "operations.raises",
        {"operators": ("mm", "addmm"), "text": "CUDA out of memory.", "memory": True},
        trips=(),
        spares=(f"{_PROBE}.completes",),
        shared=True,
    ),
    _fault(
        "memory_gone",
        _MEMORY,
        "torch_raised",
        "operations.raises",
        {"operators": ("mm", "addmm"), "text": "CUDA out of memory.", "memory": True},
    ),
    _fault(
        "sticky_error",
        _STICKY,
        "check_failed",
        "operations.raises",
        {
            "operators": ("mm", "addmm"),
            "text": "CUDA error: device-side assert triggered",
            "sticky": True,
        },
        trips=(f"{_PROBE}.completes", f"{_PROBE}.first_steps"),
    ),
    _fault(
        "sticky_ecc",
        _ECC,
        "check_failed",
        "operations.raises",
        {
            "operators": ("mm", "addmm"),
            "text": "CUDA error: uncorrectable ECC error encountered",
            "sticky": True,
        },
        trips=(f"{_PROBE}.completes", f"{_PROBE}.first_steps"),
    ),
    _kernel_fault("hangs", _HANG, "timeout", timeout_s=_TIMEOUT_S),
    _kernel_fault(
        "raises",
        _STICKY,
        "check_failed",
        arguments={"text": "CUDA error: an illegal memory access was encountered"},
    ),
)


def _control(
    name: str, where: Any, text: str, *inject: Injection, probes: tuple[str, ...]
) -> Fault:
    return Fault(
        name=f"control.{name}",
        kind="control",
        where=where,
        event=Event(text, "https://en.wikipedia.org/wiki/Scientific_control"),
        inject=inject,
        trips=(),
        spares=tuple(f"{probe}.completes" for probe in probes),
    )


_ON_DEVICES: Final = (
    *("device_transfer", "tensor_ops", "train_eval", "autograd"),
    *("gradcheck", "special_functions", "linalg", "attention"),
)

#: Operations of every probe on devices, whose kernels a control replaces. None takes numbers: those
#: reach a replaced kernel as tensors.
_COMMON: Final = ("_softmax", "addmm", "bmm", "embedding", "mm", "sum")

#: No check may trip under these: they show that the injection itself changes nothing.
CONTROLS: Final = (
    _control(
        "idle_operations",
        "any",
        "every operation is looked at, and none is changed",
        Injection("operations.idle"),
        probes=_ON_DEVICES,
    ),
    _control(
        "idle_kernels",
        "any",
        "kernels of the device are replaced by ones that call them",
        Injection("kernels.idle", {"operators": _COMMON}, on_device=True),
        probes=_ON_DEVICES,
    ),
    _control(
        "pretended_node",
        "node",
        "a sound node of two GPUs that is not there",
        Injection("node.pretends", {"changes": {}}),
        probes=("cuda_available",),
    ),
    _control(
        "pretended_installation",
        "host",
        "the sound installation of that node",
        Injection("node.pretends", {"changes": {}}),
        probes=("torch_version",),
    ),
    _control(
        "pretended_boards",
        "host",
        "two sound boards that are not there",
        Injection("health.pretends", {"changes": {}}),
        probes=("telemetry",),
    ),
    _control(
        "pretended_container",
        "host",
        "a sound container that is not there",
        Injection("surroundings.pretends", {"changes": {}}),
        probes=("container",),
    ),
    _control(
        "flood",
        "host",
        "5 MB on stdout from native code",
        Injection("processes.floods"),
        probes=("numpy_sharing",),
    ),
)

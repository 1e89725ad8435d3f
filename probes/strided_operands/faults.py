"""The faults for the checks of this probe."""

from functools import partial
from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import MORE, check_ids, wrong_kernel, wrong_operation

_MISREAD: Final = Event(
    "medians of a diagonal on the GPU were those of other elements: strides were ignored",
    "https://github.com/pytorch/pytorch/issues/46814",
)
_NORM: Final = Event(
    "gradients of batch norm on channels_last images were wrong by orders of magnitude",
    "https://github.com/pytorch/pytorch/issues/175189",
)
_WEIGHT: Final = Event(
    "convolutions with weights that are not contiguous were wrong",
    "https://github.com/pytorch/pytorch/issues/16018",
)
_LOST: Final = Event(
    "an operation in place, or with out=, that leaves a strided tensor as it was",
    "https://github.com/pytorch/pytorch/issues/118115",
)
_AROUND: Final = Event(
    "a kernel that writes its last block whole, over what lies behind the tensor",
    "https://docs.nvidia.com/compute-sanitizer/ComputeSanitizer/index.html",
)

_wrong = partial(wrong_operation, "strided_operands")
_kernel = partial(wrong_kernel, "strided_operands")


def _fault(
    function: str, way: str, operators: str, checks: str, event: Event, **arguments: Any
) -> Fault:
    names = tuple(operators.split())
    return Fault(
        name=f"layout.{names[0].strip('_')}.{way}",
        kind="semantics",
        where="any",
        event=event,
        inject=(Injection(f"layouts.{function}", {"operators": names, **arguments}),),
        trips=check_ids("strided_operands", checks),
    )


def _misread(operators: str, ignored: str, checks: str, event: Event = _MISREAD) -> Fault:
    return _fault("misread", ignored, operators, checks, event, ignored=ignored)


def _miswrite(operators: str, how: str, checks: str, event: Event) -> Fault:
    return _fault("miswrite", how, operators, checks, event, how=how)


#: As the CPU, CUDA, and HIP name them.
_BATCH_NORM_BACKWARD: Final = (
    "native_batch_norm_backward cudnn_batch_norm_backward miopen_batch_norm_backward"
)

FAULTS: Final[tuple[Fault, ...]] = (
    _misread("where", "expansion", "elementwise broadcasting"),
    _misread("add", "offset", "alignment"),
    _misread("amax", "strides", "reductions"),
    _misread("sort", "strides", "ordering"),
    _misread("mm", "expansion", "products"),
    _misread("cat", "strides", "copies"),
    _misread("gather", "strides", "indexing"),
    _misread("native_layer_norm", "strides", "rows", _NORM),
    _misread("convolution", "strides", "windows", _WEIGHT),
    _misread("nll_loss_forward", "expansion", "losses"),
    _misread(_BATCH_NORM_BACKWARD, "strides", "gradients", _NORM),
    _miswrite("maximum", "densely", "out", _LOST),
    _miswrite("mul_", "to_a_copy", "in_place", _LOST),
    _miswrite("copy_", "one_more", "in_place", _AROUND),
    _wrong("cumsum", "scaled", "ordering", by=MORE),
    _wrong("flip", "one_bit", "copies"),
    _wrong("embedding_dense_backward", "shifted", "gradients"),
    _wrong("native_layer_norm", "nan", "rows"),
    _kernel("addmm", "scaled", "products", by=MORE),
)

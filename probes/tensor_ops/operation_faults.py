"""Faults of single operations that `tensor_ops` must name, each in the family it belongs to."""

from functools import partial
from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import (
    FULL_PRECISION,
    LESS,
    MORE,
    check_ids,
    wrong_kernel,
    wrong_operation,
)

_LARGE: Final = Event(
    "products of many or large matrices are wrong beyond a limit of the launch",
    "https://github.com/pytorch/pytorch/issues/25241",
)
_DTYPE: Final = Event(
    "a convolution that is wrong in one type only",
    "https://github.com/pytorch/pytorch/issues/163539",
)
_REDUCTION: Final = Event(
    "sums are wrong where the platform lacks PCIe atomics",
    "https://github.com/pytorch/pytorch/issues/94891",
)
_TF32: Final = Event(
    "float32 products silently round their factors to TF32",
    "https://github.com/pytorch/pytorch/issues/67384",
)
_FLUSH: Final = Event(
    "a library built with -ffast-math makes the process flush subnormals to zero",
    "https://github.com/RasmussenLab/vamb/issues/341",
)
_IN_PLACE: Final = Event(
    "in-place operations that change nothing: weights never move",
    "https://github.com/pytorch/pytorch/issues/118117",
)
_RANDOM: Final = Event(
    "a generator whose numbers are not those of its seed",
    "https://github.com/pytorch/pytorch/issues/196613",
)
_NO_IMAGE: Final = Event(
    "no kernel image is available for execution on the device",
    "https://github.com/pytorch/pytorch/issues/31285",
)
_FIRST_CALL: Final = Event(
    "the first call of a function in a process is of low accuracy, later ones are right",
    "https://github.com/pytorch/pytorch/issues/188792",
)
_SWALLOWED: Final = Event(
    "an extreme that forgets NaN, so that a broken run looks well",
    "https://github.com/apache/tvm/issues/19518",
)
_SHORT_SUMS: Final = Event(
    "products of half types that are summed in the half type lose their small terms",
    "https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html",
)

_wrong = partial(wrong_operation, "tensor_ops")

_KERNELS: Final = (
    _wrong("zeros", "garbage", "creation"),
    _wrong("arange", "shifted", "creation"),
    _wrong("eye", "shifted", "creation"),
    _wrong("_to_copy", "one_bit", "conversion"),
    _wrong("add", "one_bit", "arithmetic"),
    _wrong("add", "one_a_warp", "arithmetic"),
    _wrong("add", "stale", "arithmetic"),
    _wrong("mul", "nan", "arithmetic"),
    _wrong("div", "scaled", "arithmetic", by=MORE),
    _wrong("add_", "scaled", "in_place", by=MORE),
    _wrong("addcdiv_", "zeros", "in_place", event=_IN_PLACE),
    _wrong("masked_fill_", "zeros", "in_place", event=_IN_PLACE),
    _wrong("roll", "shifted", "transposing"),
    _wrong("flip", "swapped", "transposing"),
    _wrong("index", "shifted", "indexing"),
    _wrong("gather", "swapped", "indexing"),
    _wrong("index_select", "one_bit", "indexing"),
    _wrong("tril", "nan", "slicing"),
    _wrong("diag_embed", "shifted", "slicing"),
    _wrong("cat", "shifted", "joining"),
    _wrong("constant_pad_nd", "shifted", "joining"),
    _wrong("fmod", "one_bit", "integer_division"),
    _wrong("bitwise_right_shift", "one_bit", "bitwise"),
    _wrong("bitwise_xor", "one_bit", "bitwise"),
    _wrong("trunc", "one_bit", "rounding"),
    _wrong("lt", "flipped", "comparison"),
    _wrong("where", "one_bit", "comparison"),
    _wrong("maximum", "one_bit", "comparison"),
    _wrong("isnan", "flipped", "comparison"),
    _wrong("exp", "nan", "special_values"),
    _wrong("pow", "zeros", "special_values"),
    _wrong("sum", "one_bit", "reductions large", event=_REDUCTION),
    _wrong("sum", "stale", "reductions", event=_REDUCTION),
    _wrong("amax", "scaled", "reductions", by=LESS),
    _wrong("cumsum", "swapped", "reductions"),
    _wrong("var", "scaled", "reductions", by=MORE),
    _wrong("sort", "swapped", "sorting"),
    _wrong("topk", "swapped", "sorting"),
    _wrong("searchsorted", "one_bit", "sorting"),
    _wrong("scatter_add", "one_bit", "scatter"),
    _wrong("index_put_", "scaled", "scatter", by=MORE),
    _wrong("flip", "shifted", "types", dtype="bfloat16", event=_DTYPE),
    _wrong("clamp_min", "one_bit", "types", dtype="int64", event=_DTYPE),
    _wrong("gather", "flipped", "types", dtype="bool", event=_DTYPE),
    _wrong("cumsum", "one_bit", "large", large=True, spares="reductions"),
    _wrong("add", "one_bit", "large", large=True, spares="arithmetic"),
    _wrong("exp", "scaled", "elementwise", by=MORE),
    _wrong("log", "scaled", "elementwise", by=LESS),
    _wrong("tanh", "nan", "elementwise"),
    _wrong("atan2", "swapped", "elementwise"),
    _wrong("gelu", "scaled", "neural", by=MORE),
    _wrong("_softmax", "scaled", "neural", by=MORE),
    _wrong("native_layer_norm", "scaled", "neural", by=LESS),
    _wrong("embedding", "shifted", "neural"),
)

_HIDDEN: Final = (
    _wrong("exp", "narrowed", "elementwise", event=_FIRST_CALL, spares="special_values", first=1),
    _wrong("_softmax", "narrowed", "neural", event=_FIRST_CALL, spares="not_finite", first=1),
    _wrong("mm", "swallowed", "not_finite", event=_SWALLOWED, spares="matmul_exact"),
    _wrong("where", "swallowed", "not_finite", event=_SWALLOWED),
    _wrong("amax", "swallowed", "not_finite reductions", event=_SWALLOWED),
    _wrong("_softmax", "swallowed", "not_finite", event=_SWALLOWED, spares="neural"),
    _wrong("mm", "narrowed", "double", event=_DTYPE, dtype="float64", spares="matmul_exact"),
    _wrong("sum", "narrowed", "double", event=_DTYPE, dtype="float64", spares="reductions"),
    _wrong("sort", "narrowed", "double", event=_DTYPE, dtype="float64", spares="sorting"),
)

_PRODUCTS: Final = (
    _wrong("mm", "zeros", "matmul_exact"),
    _wrong("mm", "garbage", "empty matmul_exact"),
    _wrong("mm", "one_bit", "matmul_exact"),
    _wrong("mm", "one_a_warp", "matmul_exact"),
    _wrong("mm", "one_bit", "matmul_exact", every=5),
    _wrong("mm", "swapped", "matmul_exact"),
    _wrong("mm", "stale", "matmul_exact"),
    _wrong("mm", "scaled", "matmul_exact float32_matmul", by=MORE),
    _wrong("mm", "scaled", "matmul_exact float32_matmul", by=LESS),
    _wrong("mm", "nan", "matmul_exact", dtype="float16", event=_DTYPE),
    _wrong("mm", "nan", "matmul_exact", dtype="bfloat16", event=_DTYPE),
    _wrong("mm", "nan", "matmul_exact", dtype="float64", event=_DTYPE),
    _wrong("bmm", "scaled", "matmul_exact", by=MORE),
    _wrong("bmm", "one_bit", "matmul_exact", large=True, event=_LARGE),
    _wrong("addmm", "nan", "matmul_exact"),
    _wrong("convolution", "one_bit", "convolution"),
    _wrong("convolution", "one_a_warp", "convolution"),
    _wrong("convolution", "scaled", "convolution float32_convolution", by=MORE),
    _wrong("convolution", "nan", "convolution", dtype="float16", event=_DTYPE),
    _wrong("convolution", "nan", "convolution", dtype="bfloat16", event=_DTYPE),
    _wrong("convolution", "nan", "convolution", dtype="float64", event=_DTYPE),
    _wrong("rand", "one_bit", "random_mersenne random_philox", event=_RANDOM),
    _wrong("randn", "scaled", "random_mersenne", by=LESS, event=_RANDOM),
    _wrong("uniform_", "scaled", "random_mersenne", by=MORE, event=_RANDOM),
    _wrong("randperm", "zeros", "random_moments", event=_RANDOM),
    _wrong("multinomial", "zeros", "random_moments", event=_RANDOM),
    _wrong("bernoulli", "zeros", "random_moments", event=_RANDOM),
)


def _other(
    name: str, function: str, families: str, event: Event, *, spares: str = "", **arguments: Any
) -> Fault:
    return Fault(
        name=name,
        kind="operation",
        where="any",
        event=event,
        inject=(
            *((FULL_PRECISION,) if "float32_" in families else ()),
            Injection(f"operations.{function}", arguments),
        ),
        trips=check_ids("tensor_ops", families),
        spares=check_ids("tensor_ops", spares),
    )


_OTHERS: Final = (
    _other(
        "mm.tf32",
        "shortened",
        "float32_matmul",
        _TF32,
        spares="matmul_exact float32_convolution",
        operators=("mm", "addmm", "bmm", "baddbmm"),
        bits=10,
    ),
    _other(
        "convolution.tf32",
        "shortened",
        "float32_convolution",
        _TF32,
        spares="convolution float32_matmul",
        operators=("convolution",),
        bits=10,
    ),
    _other(
        "mm.half_sums",
        "half_sums",
        "accumulation",
        _SHORT_SUMS,
        spares="matmul_exact",
        operators=("mm", "bmm"),
    ),
    _other(
        "sum.half_sums",
        "half_sums",
        "accumulation",
        _SHORT_SUMS,
        spares="reductions",
        operators=("sum",),
    ),
    _other(
        "arithmetic.flushed",
        "wrong",
        "subnormals",
        _FLUSH,
        spares="matmul_exact",
        operators=("add", "sub", "mul", "div", "add_", "mul_", "div_", "mm", "addmm", "neg", "abs"),
        spoil="flushed",
    ),
    _other(
        "bmm.no_kernel_image",
        "raises",
        "matmul_exact",
        _NO_IMAGE,
        spares="convolution elementwise",
        operators=("bmm",),
        text="CUDA error: no kernel image is available for execution on the device",
    ),
)

_AT_THE_DEVICE: Final = (
    wrong_kernel("tensor_ops", "mm", "one_bit", "matmul_exact"),
    wrong_kernel("tensor_ops", "_softmax", "scaled", "neural", by=MORE),
)

OPERATIONS: Final = (*_KERNELS, *_HIDDEN, *_PRODUCTS, *_OTHERS, *_AT_THE_DEVICE)

"""Faults of single operations that `tensor_ops` must name, each in the family it belongs to."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection

_SILENT: Final = Event(
    "silent data corruption in a compute unit: some bits of some elements, some of the time",
    "https://arxiv.org/abs/2605.04213",
)
_LANE: Final = Event(
    "one lane of every warp computes wrong",
    "https://arxiv.org/abs/2502.12340",
)
_ZEROS: Final = Event(
    "a kernel that writes nothing: small products came out as zeros",
    "https://github.com/pytorch/pytorch/issues/57347",
)
_LARGE: Final = Event(
    "products of many or large matrices are wrong beyond a limit of the launch",
    "https://github.com/pytorch/pytorch/issues/25241",
)
_DTYPE: Final = Event(
    "a convolution that is wrong in one type only",
    "https://github.com/pytorch/pytorch/issues/163539",
)
_FIRST: Final = Event(
    "the first call of a decomposition gives zeros, later ones are right",
    "https://github.com/pytorch/pytorch/issues/82473",
)
_LATER: Final = Event(
    "eigenvectors are wrong from some call on",
    "https://github.com/pytorch/pytorch/issues/192483",
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
_KERNEL: Final = Event(
    "a kernel of a new version or architecture that is wrong in some elements",
    "https://github.com/pytorch/pytorch/issues/22078",
)
_UNSUPPORTED: Final = Event(
    "an architecture that is forced on another's code gives NaN and garbage",
    "https://github.com/vladmandic/sdnext/issues/1805",
)
_STALE: Final = Event(
    "a kernel that leaves what its memory held before",
    "https://github.com/pytorch/pytorch/issues/86465",
)
_NO_IMAGE: Final = Event(
    "no kernel image is available for execution on the device",
    "https://github.com/pytorch/pytorch/issues/31285",
)

_EVENTS: Final = {
    "zeros": _ZEROS,
    "garbage": _ZEROS,
    "one_bit": _SILENT,
    "one_a_warp": _LANE,
    "nan": _UNSUPPORTED,
    "stale": _STALE,
}


#: Injected first: TF32 is a fault only where the settings forbid it.
_FULL: Final = Injection("calls.full_precision")


def _ids(families: str) -> tuple[str, ...]:
    return tuple(f"tensor_ops.{family}" for family in families.split())


def _wrong(
    operators: str,
    spoil: str,
    families: str,
    *,
    event: Event | None = None,
    spares: str = "",
    **when: Any,
) -> Fault:
    """`operators` as torch's dispatcher names them, alternatives of one operation together."""
    names = tuple(operators.split())
    parts = [names[0].strip("_"), spoil + (f"_{when['by']:g}" if "by" in when else "")]
    parts += [
        str(value if isinstance(value, str) else key) for key, value in when.items() if key != "by"
    ]
    return Fault(
        name=".".join(parts),
        kind="operation",
        where="any",
        event=event or _EVENTS.get(spoil, _KERNEL),
        inject=(
            *((_FULL,) if "float32_" in families else ()),
            Injection("operations.wrong", {"operators": names, "spoil": spoil, **when}),
        ),
        trips=_ids(families),
        spares=_ids(spares),
    )


_MORE: Final = 1.001
_LESS: Final = 0.999

_KERNELS: Final = (
    _wrong("zeros", "garbage", "creation"),
    _wrong("arange", "shifted", "creation"),
    _wrong("eye", "shifted", "creation"),
    _wrong("_to_copy", "one_bit", "conversion"),
    _wrong("add", "one_bit", "arithmetic"),
    _wrong("add", "one_a_warp", "arithmetic"),
    _wrong("add", "stale", "arithmetic"),
    _wrong("mul", "nan", "arithmetic"),
    _wrong("div", "scaled", "arithmetic", by=_MORE),
    _wrong("add_", "scaled", "in_place", by=_MORE),
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
    _wrong("amax", "scaled", "reductions", by=_LESS),
    _wrong("cumsum", "swapped", "reductions"),
    _wrong("var", "scaled", "reductions", by=_MORE),
    _wrong("sort", "swapped", "sorting"),
    _wrong("topk", "swapped", "sorting"),
    _wrong("searchsorted", "one_bit", "sorting"),
    _wrong("scatter_add", "one_bit", "scatter"),
    _wrong("index_put_", "scaled", "scatter", by=_MORE),
    _wrong("cumsum", "one_bit", "large", large=True, spares="reductions"),
    _wrong("add", "one_bit", "large", large=True, spares="arithmetic"),
    _wrong("exp", "scaled", "elementwise", by=_MORE),
    _wrong("log", "scaled", "elementwise", by=_LESS),
    _wrong("erfc", "scaled", "elementwise", by=_MORE),
    _wrong("tanh", "nan", "elementwise"),
    _wrong("atan2", "swapped", "elementwise"),
    _wrong("_fft_c2c", "scaled", "complex_numbers", by=_MORE),
    _wrong("angle", "scaled", "complex_numbers", by=_LESS),
    _wrong("gelu", "scaled", "neural", by=_MORE),
    _wrong("_softmax", "scaled", "neural", by=_MORE),
    _wrong("native_layer_norm", "scaled", "neural", by=_LESS),
    _wrong("embedding", "shifted", "neural"),
)

_PRODUCTS: Final = (
    _wrong("mm", "zeros", "matmul_exact"),
    _wrong("mm", "garbage", "empty matmul_exact"),
    _wrong("mm", "one_bit", "matmul_exact"),
    _wrong("mm", "one_a_warp", "matmul_exact"),
    _wrong("mm", "one_bit", "matmul_exact", every=5),
    _wrong("mm", "swapped", "matmul_exact"),
    _wrong("mm", "stale", "matmul_exact"),
    _wrong("mm", "scaled", "matmul_exact float32_matmul", by=_MORE),
    _wrong("mm", "scaled", "matmul_exact float32_matmul", by=_LESS),
    _wrong("mm", "nan", "matmul_exact", dtype="float16", event=_DTYPE),
    _wrong("mm", "nan", "matmul_exact", dtype="bfloat16", event=_DTYPE),
    _wrong("mm", "nan", "matmul_exact", dtype="float64", event=_DTYPE),
    _wrong("bmm", "scaled", "matmul_exact", by=_MORE),
    _wrong("bmm", "one_bit", "matmul_exact", large=True, event=_LARGE),
    _wrong("addmm", "nan", "matmul_exact"),
    _wrong("convolution", "one_bit", "convolution"),
    _wrong("convolution", "one_a_warp", "convolution"),
    _wrong("convolution", "scaled", "convolution float32_convolution", by=_MORE),
    _wrong("convolution", "nan", "convolution", dtype="float16", event=_DTYPE),
    _wrong("convolution", "nan", "convolution", dtype="bfloat16", event=_DTYPE),
    _wrong("convolution", "nan", "convolution", dtype="float64", event=_DTYPE),
    _wrong("_linalg_solve_ex", "scaled", "linalg_solve", by=_MORE),
    _wrong("linalg_inv_ex", "zeros", "linalg_solve", event=_STALE),
    _wrong("_linalg_svd", "scaled", "linalg_decompose", by=_LESS),
    _wrong("_linalg_svd", "zeros", "linalg_solve", first=1, event=_FIRST),
    _wrong("_linalg_eigh", "scaled", "linalg_decompose", by=_MORE),
    _wrong("_linalg_eigh", "zeros", "linalg_decompose", after=5, event=_LATER),
    _wrong("linalg_qr", "nan", "linalg_decompose"),
    _wrong("rand", "one_bit", "random_mersenne random_philox", event=_RANDOM),
    _wrong("randn", "scaled", "random_mersenne", by=_LESS, event=_RANDOM),
    _wrong("uniform_", "scaled", "random_mersenne", by=_MORE, event=_RANDOM),
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
            *((_FULL,) if "float32_" in families else ()),
            Injection(f"operations.{function}", arguments),
        ),
        trips=_ids(families),
        spares=_ids(spares),
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

OPERATIONS: Final = (*_KERNELS, *_PRODUCTS, *_OTHERS)

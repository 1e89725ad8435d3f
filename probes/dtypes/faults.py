"""The faults for the checks of this probe."""

from functools import partial
from typing import Final

from probes.faults.fault import Event, Fault
from probes.faults.wrong_operation import MORE, wrong_kernel, wrong_operation

_ONE_TYPE: Final = Event(
    "a kernel that is wrong for one type of its operands",
    "https://github.com/pytorch/pytorch/issues/82707",
)
_BACKWARD: Final = Event(
    "a backward kernel that is wrong for some types, shapes or memory formats",
    "https://github.com/pytorch/pytorch/issues/84488",
)
_DRAWS: Final = Event(
    "a generator whose numbers have another distribution in one type",
    "https://github.com/pytorch/pytorch/issues/48841",
)

#: The smallest error that half types must show.
_BY: Final = 1.05

_wrong = partial(wrong_operation, "dtypes")
_kernel = partial(wrong_kernel, "dtypes")

FAULTS: Final[tuple[Fault, ...]] = (
    _wrong("ge", "flipped", "comparisons"),
    _wrong("clamp_min", "one_bit", "comparisons", dtype="int32", event=_ONE_TYPE),
    _wrong("sign", "scaled", "comparisons", by=_BY, dtype="bfloat16", event=_ONE_TYPE),
    _kernel("minimum", "swapped", "comparisons"),
    _wrong("remainder", "one_bit", "arithmetic", dtype="int16", event=_ONE_TYPE),
    _wrong("rsub", "scaled", "arithmetic gradients", by=_BY, dtype="float16", event=_ONE_TYPE),
    _wrong("mul", "swapped", "arithmetic", dtype="complex128", event=_ONE_TYPE),
    _wrong("addcmul_", "zeros", "in_place"),
    _wrong("div_", "scaled", "in_place", by=_BY, dtype="bfloat16", event=_ONE_TYPE),
    _kernel("masked_fill_", "zeros", "in_place"),
    _wrong("bitwise_and", "flipped", "logic"),
    _wrong("logical_xor", "stale", "logic"),
    _wrong("_is_all_true", "flipped", "logic"),
    _wrong("roll", "shifted", "moving", dtype="bool", event=_ONE_TYPE),
    _wrong("constant_pad_nd", "one_a_warp", "moving", dtype="int64"),
    _wrong("repeat", "swapped", "moving", dtype="bfloat16", event=_ONE_TYPE),
    _kernel("index", "zeros", "moving"),
    _wrong("new_ones", "zeros", "creation", dtype="float16", event=_ONE_TYPE),
    _wrong("linspace", "short", "creation"),
    _wrong("prod", "one_bit", "reductions", dtype="int64"),
    _wrong("mean", "scaled", "reductions", by=_BY, dtype="bfloat16", event=_ONE_TYPE),
    _kernel("topk", "swapped", "reductions"),
    _wrong("baddbmm", "scaled", "products", by=_BY, dtype="bfloat16", event=_ONE_TYPE),
    _wrong("_grouped_mm", "swapped", "products"),
    _wrong("digamma", "scaled", "functions", by=MORE),
    _wrong("log2", "scaled", "functions", by=_BY, dtype="float16", event=_ONE_TYPE),
    _wrong("_euclidean_dist", "scaled", "functions", by=MORE),
    _wrong("slice_backward", "scaled", "gradients", by=_BY, dtype="float16", event=_BACKWARD),
    _wrong("select_backward", "shifted", "gradients", event=_BACKWARD),
    _wrong("unfold_backward", "scaled", "gradients", by=_BY, dtype="bfloat16", event=_BACKWARD),
    _wrong("_fft_c2r", "scaled", "gradients", by=MORE, event=_BACKWARD),
    _wrong("bernoulli_", "zeros", "draws", dtype="float16"),
    _wrong("poisson", "scaled", "draws", by=_BY, event=_DRAWS),
    _wrong("randint", "one_a_warp", "draws", event=_DRAWS),
)

"""The faults for the checks of this probe."""

from functools import partial
from typing import Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import check_ids, wrong_kernel, wrong_operation

_WRAPPED: Final = Event(
    "a kernel whose addresses have too few bits reads and writes elsewhere in large tensors",
    "https://github.com/pytorch/pytorch/issues/167086",
)
_COUNTED: Final = Event(
    "a count or a position that is kept in float32 stops at 2^24",
    "https://github.com/pytorch/pytorch/issues/25747",
)
_LAUNCH: Final = Event(
    "rows or matrices beyond the blocks of one launch are wrong",
    "https://github.com/pytorch/pytorch/issues/25241",
)

_wrong = partial(wrong_operation, "large_tensors")


def _wrapped_indices(operators: str, check: str) -> Fault:
    names = tuple(operators.split())
    return Fault(
        name=f"{names[0].strip('_')}.wrapped_indices",
        kind="operation",
        where="any",
        event=_WRAPPED,
        inject=(Injection("operations.wrapped_indices", {"operators": names, "bits": 24}),),
        trips=check_ids("large_tensors", check),
    )


FAULTS: Final[tuple[Fault, ...]] = (
    _wrong("sum", "counted", "sums", event=_COUNTED),
    _wrong("argmax", "counted", "extremes", event=_COUNTED),
    _wrong("clone", "wrapped", "copies", event=_WRAPPED, by=20),
    _wrong("cat", "wrapped", "joins", event=_WRAPPED, by=24),
    _wrapped_indices("gather", "gathers"),
    _wrapped_indices("scatter_", "scatters"),
    _wrong("sort", "wrapped", "ordering", event=_WRAPPED, by=20),
    _wrong("_softmax", "wrapped", "rows", event=_LAUNCH, by=16),
    wrong_kernel("large_tensors", "bitwise_xor", "wrapped", "elementwise", event=_WRAPPED, by=24),
    wrong_kernel("large_tensors", "bmm", "swapped", "products", event=_LAUNCH, large=True),
    _wrong("gelu", "wrapped", "activations", event=_WRAPPED, by=24),
    _wrong("nll_loss_forward", "wrapped", "losses", event=_LAUNCH, by=20),
    _wrong("max_pool2d_with_indices", "wrapped", "images", event=_LAUNCH, by=17),
    wrong_kernel("large_tensors", "cumsum", "scaled", "gradients", by=1.05, large=True),
    _wrong("uniform_", "wrapped", "draws", event=_WRAPPED, by=20),
    _wrong("bernoulli_", "zeros", "draws", event=_WRAPPED, large=True),
    _wrong("_foreach_addcdiv_", "wrapped", "optimizers", event=_WRAPPED, by=20),
)

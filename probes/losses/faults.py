"""The faults for the checks of this probe."""

from functools import partial
from typing import Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import (
    LESS,
    MORE,
    STALE,
    check_ids,
    wrong_kernel,
    wrong_operation,
)

_MEANING: Final = Event(
    "a patch, plug-in or version of torch whose loss is another than documented",
    "https://docs.pytorch.org/docs/stable/nn.html#loss-functions",
)
_BACKWARD: Final = Event(
    "CTC's gradient that is wrong for some lengths",
    "https://github.com/pytorch/pytorch/issues/52241",
)

_wrong = partial(wrong_operation, "losses")


def _meaning(name: str, checks: str) -> Fault:
    return Fault(
        name=f"losses.{name}",
        kind="semantics",
        where="any",
        event=_MEANING,
        inject=(Injection("layers.means_something_else", {"name": name}),),
        trips=check_ids("losses", checks),
    )


FAULTS: Final[tuple[Fault, ...]] = (
    _wrong("smooth_l1_loss", "scaled", "distances", by=MORE),
    _wrong("binary_cross_entropy_backward", "scaled", "binary", by=LESS),
    _wrong("xlogy", "zeros", "likelihoods", event=STALE),
    _wrong("nll_loss_forward", "scaled", "nll", by=LESS),
    _wrong("nll_loss2d_backward", "shifted", "nll"),
    _wrong("_log_softmax", "nan", "cross_entropy"),
    _wrong("multi_margin_loss", "swapped", "class_margins", dtype="float32"),
    _wrong("norm linalg_vector_norm", "scaled", "pairs", by=MORE),
    _wrong("_ctc_loss _cudnn_ctc_loss", "scaled", "ctc", by=MORE),
    wrong_kernel("losses", "_ctc_loss_backward", "scaled", "ctc", by=MORE, event=_BACKWARD),
    _meaning("smooth_l1_without_beta", "distances"),
    _meaning("pos_weight_ignored", "binary"),
    _meaning("log_target_ignored", "likelihoods"),
    _meaning("ignored_counted", "nll"),
    _wrong("nll_loss2d_forward", "scaled", "nll", by=1.05, dtype="bfloat16"),
    _meaning("ignore_index_ignored", "cross_entropy"),
    _meaning("smoothing_ignored", "cross_entropy"),
    _meaning("margin_of_one", "class_margins"),
    _meaning("never_swapped", "pairs"),
    _meaning("blank_last", "ctc"),
)

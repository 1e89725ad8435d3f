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
    "a patch, plug-in or version of torch whose layer does something else than documented",
    "https://docs.pytorch.org/docs/stable/nn.functional.html",
)
_BACKWARD: Final = Event(
    "a backward kernel that is wrong for some types, shapes or memory formats",
    "https://github.com/pytorch/pytorch/issues/84488",
)
_LARGE: Final = Event(
    "a kernel whose grid is too small for a large batch",
    "https://github.com/pytorch/pytorch/issues/22078",
)
_FORMAT: Final = Event(
    "a kernel of a back-end that takes channels_last for contiguous",
    "https://docs.pytorch.org/tutorials/intermediate/memory_format_tutorial.html",
)

#: The smallest error that half types must show.
_BY: Final = 1.05

#: LSTM's kernel on the CPU and on GPUs, and what it is made of elsewhere.
_LSTM: Final = "mkldnn_rnn_layer _cudnn_rnn miopen_rnn _thnn_fused_lstm_cell addmm"
_BATCH_NORM: Final = "native_batch_norm cudnn_batch_norm miopen_batch_norm _batch_norm_with_update"

_wrong = partial(wrong_operation, "layers")
_kernel = partial(wrong_kernel, "layers")


def _meaning(name: str, checks: str, event: Event = _MEANING) -> Fault:
    return Fault(
        name=f"layers.{name}",
        kind="semantics",
        where="any",
        event=event,
        inject=(Injection("layers.means_something_else", {"name": name}),),
        trips=check_ids("layers", checks),
    )


FAULTS: Final[tuple[Fault, ...]] = (
    # Forward.
    _wrong("silu", "scaled", "activations", by=_BY, dtype="bfloat16"),
    _wrong("silu_", "scaled", "in_place", by=MORE, dtype="float32"),
    _wrong("_weight_norm_interface", "scaled", "weight_norm", by=MORE),
    _wrong("_softmax", "swapped", "softmax", dtype="float16"),
    _wrong(_LSTM, "scaled", "recurrent", by=MORE, dtype="float32"),
    _wrong("sigmoid sigmoid_ _thnn_fused_gru_cell", "scaled", "recurrent_cells", by=LESS),
    _wrong("native_layer_norm", "scaled", "row_norms", by=_BY, dtype="bfloat16"),
    _wrong("native_group_norm", "zeros", "group_norm", event=STALE),
    _wrong(_BATCH_NORM, "scaled", "batch_norm", by=_BY, dtype="bfloat16"),
    _wrong("max_pool2d_with_indices", "short", "max_pooling"),
    _wrong("avg_pool2d", "stale", "average_pooling"),
    _wrong("_adaptive_avg_pool2d", "scaled", "adaptive_pooling", by=MORE),
    _wrong("upsample_bilinear2d", "scaled", "interpolation", by=_BY, dtype="bfloat16"),
    _wrong("grid_sampler_2d cudnn_grid_sampler", "shifted", "sampling"),
    _wrong("reflection_pad2d", "shifted", "padding"),
    _wrong("col2im", "zeros", "moves"),
    _wrong("_embedding_bag", "scaled", "embedding_bag", by=MORE),
    _wrong("_transformer_encoder_layer_fwd", "scaled", "transformer", by=_BY, dtype="float32"),
    # Backward.
    _wrong("gelu_backward", "scaled", "activations", by=_BY, dtype="float16", event=_BACKWARD),
    _wrong("_log_softmax_backward_data", "nan", "softmax", event=_BACKWARD),
    _wrong("native_group_norm_backward", "scaled", "frozen_input", by=LESS, event=_BACKWARD),
    _wrong("convolution_backward", "swapped", "convolutions", dtype="bfloat16", event=_BACKWARD),
    _wrong("embedding_dense_backward", "swapped", "embedding", event=_BACKWARD),
    _wrong("_weight_norm_interface_backward", "swapped", "weight_norm", event=_BACKWARD),
    # Below Python and autograd.
    _kernel("upsample_nearest2d_backward", "one_bit", "interpolation", event=_BACKWARD),
    _kernel("native_group_norm_backward", "swapped", "group_norm", event=_BACKWARD),
    _kernel("hardswish_", "scaled", "in_place", by=_BY),
    _kernel("_prelu_kernel_backward", "nan", "activations", event=_BACKWARD),
    # Other meanings.
    _meaning("group_norm_of_other_memory", "group_norm", _FORMAT),
    _meaning("packed_in_another_order", "recurrent"),
    _meaning("nothing_dropped", "recurrent_calls"),
    _meaning("long_rows_cut", "sizes", _LARGE),
    _meaning("ceil_mode_ignored", "max_pooling"),
    _meaning("integers_padded_with_zeros", "padding"),
    _meaning("mask_ignored", "transformer"),
    _meaning("rows_repeated", "recurrent_rows", _LARGE),
    _meaning("dilation_ignored", "max_pooling"),
    _meaning("antialias_ignored", "interpolation"),
    _meaning("grid_padding_ignored", "sampling"),
    _meaning("padding_gets_a_gradient", "embedding"),
    _meaning("bag_counts_padding", "embedding_bag"),
    _meaning("checkpoint_drops_again", "checkpoint"),
)

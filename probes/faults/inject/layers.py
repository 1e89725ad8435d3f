"""Replaces layers and losses with ones that mean something else."""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional
from torch.utils import checkpoint

from probes.faults.inject.replaced import replace


def _with_options(**changed: Any) -> Callable[[Any], Any]:
    """The call with some of its options replaced."""

    def make(original: Any) -> Any:
        return lambda *operands, **options: original(*operands, **{**options, **changed})

    return make


def _without(*names: str) -> Callable[[Any], Any]:
    """The call without some of its options."""

    def make(original: Any) -> Any:
        def call(*operands: Any, **options: Any) -> Any:
            return original(*operands, **{k: v for k, v in options.items() if k not in names})

        return call

    return make


def _one_group(original: Any) -> Any:
    """GroupNorm that normalises over all channels at once."""

    def call(x: Any, groups: int, *rest: Any, **options: Any) -> Any:
        return original(x, min(groups, 1), *rest, **options)

    return call


def _memory_format_ignored(original: Any) -> Any:
    """A kernel that takes the memory of channels_last for contiguous."""

    def call(x: torch.Tensor, *rest: Any, **options: Any) -> Any:
        if x.dim() == 4 and not x.is_contiguous():
            x = x.permute(0, 2, 3, 1).reshape(x.shape)
        return original(x, *rest, **options)

    return call


def _mean_subtracted(original: Any) -> Any:
    """RMSNorm that is a LayerNorm."""

    def call(x: torch.Tensor, rows: Any, *rest: Any, **options: Any) -> Any:
        axes = tuple(range(-len(rows), 0))
        return original(x - x.mean(axes, keepdim=True), rows, *rest, **options)

    return call


def _unsorted(original: Any) -> Any:
    """Packed sequences that come back in the order of their lengths."""

    def pad(packed: Any, *rest: Any, **options: Any) -> Any:
        return original(packed._replace(unsorted_indices=None), *rest, **options)

    return pad


def _last_step_lost(original: Any) -> Any:
    """A recurrent layer whose last output is that of the step before."""

    def forward(self: Any, *given: Any, **options: Any) -> Any:
        out, last = original(self, *given, **options)
        if not isinstance(out, torch.Tensor) or out.shape[0] < 2:
            return out, last
        return torch.cat([out[:-1], out[-2:-1]]), last

    return forward


def _first_rows_repeated(original: Any) -> Any:
    """A grid that is too small for its batch: rows beyond 8192 are those of the first."""
    largest = 8192

    def forward(self: Any, *given: Any, **options: Any) -> Any:
        out, last = original(self, *given, **options)
        if isinstance(out, torch.Tensor) and out.shape[1] > largest:
            beyond = out.shape[1] - largest
            out = torch.cat([out[:, :largest], out[:, :beyond]], 1)
        return out, last

    return forward


def _long_rows_cut(original: Any) -> Any:
    """A kernel that takes the first 4,096 elements of each row alone."""
    most = 4096

    def call(x: torch.Tensor, dim: int, **options: Any) -> Any:
        if x.shape[dim] <= most:
            return original(x, dim=dim, **options)
        first, rest = x.split([most, x.shape[dim] - most], dim)
        return torch.cat([original(first, dim=dim, **options), rest * 0], dim)

    return call


def _nothing_dropped(original: Any) -> Any:
    """A recurrent layer whose dropout between its layers drops nothing."""

    def forward(self: Any, *given: Any, **options: Any) -> Any:
        self.dropout = 0.0
        return original(self, *given, **options)

    return forward


def _states_of_ones(original: Any) -> Any:
    """A GRU that starts from ones where no state is given."""

    def forward(self: Any, x: Any, first: Any = None) -> Any:
        if first is None and isinstance(x, torch.Tensor):
            count = self.num_layers * (2 if self.bidirectional else 1)
            first = x.new_ones(count, *x.shape[1:-1], self.hidden_size)
        return original(self, x, first)

    return forward


def _integers_padded_with_zeros(original: Any) -> Any:
    """Padding of whole numbers that ignores its value."""

    def call(x: torch.Tensor, pads: Any, mode: str = "constant", value: Any = None) -> Any:
        return original(x, pads, mode, value if x.is_floating_point() else None)

    return call


def _mask_ignored(original: Any) -> Any:
    """An encoder layer that attends to what comes later."""

    def forward(self: Any, x: Any, src_mask: Any = None, **options: Any) -> Any:
        del src_mask
        return original(self, x, **options)

    return forward


def _drops_again(original: Any) -> Any:
    """A checkpoint that forgets the state of the generators."""

    def call(function: Any, *operands: Any, **options: Any) -> Any:
        return original(function, *operands, **{**options, "preserve_rng_state": False})

    return call


def _last_gate_negated(original: Any) -> Any:
    """GLU whose gate has the other sign."""

    def call(x: torch.Tensor, dim: int = -1) -> Any:
        a, b = x.chunk(2, dim)
        return original(torch.cat([a, -b], dim), dim)

    return call


def _mean_of_all(original: Any) -> Any:
    """A mean that also counts what is ignored."""

    def call(x: torch.Tensor, target: torch.Tensor, *rest: Any, **options: Any) -> Any:
        if options.get("reduction", "mean") != "mean":
            return original(x, target, *rest, **options)
        each = original(x, target, *rest, **{**options, "reduction": "none"})
        return each.mean()

    return call


def _blank_last(original: Any) -> Any:
    """CTC whose blank is the last symbol whatever is asked for."""

    def call(scores: torch.Tensor, *rest: Any, **options: Any) -> Any:
        return original(scores, *rest, **{**options, "blank": scores.shape[-1] - 1})

    return call


#: Name -> (owner, function, factory of its replacement).
LAYERS: Final[dict[str, tuple[Any, str, Callable[[Any], Any]]]] = {
    "gelu_by_tanh": (functional, "gelu", lambda f: lambda x, **_: f(x, approximate="tanh")),
    "glu_negated": (functional, "glu", _last_gate_negated),
    "softmax_of_the_last_axis": (functional, "softmax", _with_options(dim=-1)),
    "group_norm_with_one_group": (functional, "group_norm", _one_group),
    "group_norm_of_other_memory": (functional, "group_norm", _memory_format_ignored),
    "rms_norm_subtracts_the_mean": (functional, "rms_norm", _mean_subtracted),
    "layer_norm_without_eps": (
        functional,
        "layer_norm",
        lambda f: lambda x, rows, weight=None, bias=None, _eps=0: f(x, rows, weight, bias, 0.0),
    ),
    "packed_in_another_order": (nn.utils.rnn, "pad_packed_sequence", _unsorted),
    "last_step_lost": (nn.LSTM, "forward", _last_step_lost),
    "rows_repeated": (nn.GRU, "forward", _first_rows_repeated),
    "long_rows_cut": (functional, "softmax", _long_rows_cut),
    "nothing_dropped": (nn.RNN, "forward", _nothing_dropped),
    "states_of_ones": (nn.GRU, "forward", _states_of_ones),
    "integers_padded_with_zeros": (functional, "pad", _integers_padded_with_zeros),
    "mask_ignored": (nn.TransformerEncoderLayer, "forward", _mask_ignored),
    "ceil_mode_ignored": (functional, "max_pool2d", _without("ceil_mode")),
    "averages_without_ceil_mode": (
        functional,
        "avg_pool2d",
        lambda f: lambda x, kernel, stride, pad, _ceil, **o: f(x, kernel, stride, pad, **o),
    ),
    "factor_recomputed": (
        functional,
        "interpolate",
        lambda f: (
            lambda x, **o: f(x, **{**o, "recompute_scale_factor": "scale_factor" in o or None})
        ),
    ),
    "norm_type_ignored": (functional, "embedding", _without("norm_type")),
    "padding_last": (
        functional,
        "embedding",
        lambda f: (
            lambda i, table, **o: f(
                i, table, **{**o, "padding_idx": -1 if (o.get("padding_idx") or 0) < 0 else None}
            )
        ),
    ),
    "channels_not_shuffled": (functional, "channel_shuffle", lambda _: lambda x, _groups: x),
    "padding_counted": (functional, "avg_pool2d", _without("count_include_pad")),
    "dilation_ignored": (functional, "max_pool2d", _without("dilation")),
    "corners_ignored": (functional, "interpolate", _with_options(align_corners=None)),
    "antialias_ignored": (functional, "interpolate", _without("antialias")),
    "grid_padding_ignored": (functional, "grid_sample", _without("padding_mode")),
    "replicated_for_reflected": (
        functional,
        "pad",
        lambda f: (
            lambda x, pads, mode="constant", **o: f(
                x, pads, mode="replicate" if mode == "reflect" else mode, **o
            )
        ),
    ),
    "shuffled_otherwise": (
        functional,
        "pixel_shuffle",
        lambda f: lambda x, factor: f(x, factor).transpose(2, 3).reshape(f(x, factor).shape),
    ),
    "padding_gets_a_gradient": (functional, "embedding", _without("padding_idx")),
    "bag_counts_padding": (functional, "embedding_bag", _without("padding_idx")),
    "checkpoint_drops_again": (checkpoint, "checkpoint", _drops_again),
    "smooth_l1_without_beta": (functional, "smooth_l1_loss", _without("beta")),
    "pos_weight_ignored": (
        functional,
        "binary_cross_entropy_with_logits",
        _without("pos_weight"),
    ),
    "log_target_ignored": (functional, "kl_div", _without("log_target")),
    "ignored_counted": (functional, "nll_loss", _mean_of_all),
    "ignore_index_ignored": (functional, "cross_entropy", _without("ignore_index")),
    "variance_without_eps": (functional, "gaussian_nll_loss", _with_options(eps=1e-9)),
    "sum_by_default": (
        functional,
        "mse_loss",
        lambda f: lambda *operands, **o: f(*operands, **{"reduction": "sum", **o}),
    ),
    "infinities_kept": (functional, "ctc_loss", _with_options(zero_infinity=False)),
    "distances_of_norm_2": (functional, "pairwise_distance", _without("p")),
    "smoothing_ignored": (functional, "cross_entropy", _without("label_smoothing")),
    "margin_of_one": (functional, "multi_margin_loss", _without("margin")),
    "never_swapped": (functional, "triplet_margin_loss", _without("swap")),
    "blank_last": (functional, "ctc_loss", _blank_last),
}


def means_something_else(name: str) -> None:
    """Replace the function that `LAYERS` has under that name."""
    owner, function, make = LAYERS[name]
    replace(owner, function, make)

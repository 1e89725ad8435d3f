"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final, Literal

from probes.contract import MIB, Frozen, ProbeSpec


class Limits(Frozen):
    """The precision required where a variable forces shortened float32 products."""

    #: "as_set" skips what TF32 explains where a variable forces it; "exact" never does.
    float32_products: Literal["as_set", "exact"] = "as_set"


SPEC: Final = ProbeSpec(
    name="convolutions",
    profile="standard",
    needs="device",
    timeout_s=240,
    typical_s=3,
    interval_s=3600,
    memory_bytes=16 * MIB,  # not measured; no tensor is larger than 3 MiB
    limits=Limits,
    checks={
        "forward": "filters of 1 to 7, strides, padding and dilation in one to three dimensions",
        "grouped": "groups, down to one channel each, in one to three dimensions",
        "transposed": "transposed convolutions, with groups, dilation and output padding",
        "padding": "padding by name and by mode, and images without a batch",
        "large": "a thousand channels, filters of 31, long signals, batches of 0, 1 and 65537",
        "channels_last": "images and weights in channels_last, forward and backward",
        "gradients": "gradients of input, weight and bias, in every floating type",
        "frozen": "gradients of the input alone, of the weight alone, of the bias alone",
        "algorithms": "algorithms tried, picked by rule, and deterministic ones are all right",
        "precision": "with TF32 off float32 keeps 24 bits, forward and backward",
    },
)

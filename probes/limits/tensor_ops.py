"""Limits of the probe `tensor_ops`."""

from typing import Literal

from probes.contract import Frozen


class Limits(Frozen):
    """What is asked of float32 products where the back-end may shorten their operands."""

    #: "as_set" skips TF32 and the like where torch's own setting allows it; "exact" never does.
    float32_products: Literal["as_set", "exact"] = "as_set"

"""What the probe saw: each family's comparisons, and what the user allows in float32 products."""

from typing import Literal

from pydantic import Field

from probes.contract import Comparison, Frozen, Observation


class Limits(Frozen):
    """What is asked of float32 products where the back-end may shorten their operands."""

    #: "as_set" skips TF32 and the like where torch's own setting allows it; "exact" never does.
    float32_products: Literal["as_set", "exact"] = "as_set"


class Precision(Frozen):
    """What is set for float32 products."""

    matmul: str = ""  # torch.get_float32_matmul_precision(), or what it raised
    matmul_may_shorten: bool = False
    convolution_may_shorten: bool = False
    #: Of the environment, that shorten whatever torch says.
    variables: dict[str, str] = Field(default_factory=dict)


class Seen(Observation):
    """Comparisons by check; a family that does not apply to the device is not there."""

    device: str
    families: dict[str, tuple[Comparison, ...]]
    not_implemented: tuple[str, ...] = ()  # families of which the back-end implements nothing
    precision: Precision = Precision()

"""What the probe saw: each family's comparisons, and what the user allows in float32 products."""

from pydantic import Field

from probes.contract import Comparison, Frozen, Observation


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

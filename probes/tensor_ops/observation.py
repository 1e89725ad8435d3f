"""What the probe saw: each family's comparisons, and what the user allows in float32 products."""

from pydantic import Field

from probes import contract
from probes.contract import Comparison
from probes.kit.precision import Precision


class Observation(contract.Observation):
    """Comparisons by check; a family that does not apply to the device is not there."""

    device: str
    families: dict[str, tuple[Comparison, ...]]
    not_implemented: tuple[str, ...] = ()  # families of which the back-end implements nothing
    precision: Precision = Precision()
    back_end: str = ""  # as `probes.kit.capabilities.back_end` names it; "" in old recordings
    capability: tuple[int, int] | None = None  # of an NVIDIA GPU
    #: Family -> operations of it that the back-end lacks, as it may, each with what it said.
    lacking: dict[str, tuple[str, ...]] = Field(default_factory=dict)

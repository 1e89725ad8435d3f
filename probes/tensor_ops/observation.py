"""The observation: comparisons of each family, and the settings for float32 products."""

from pydantic import Field

from probes import contract
from probes.contract import Comparison
from probes.kit.precision import Precision


class Observation(contract.Observation):
    """Comparisons by check; families that do not apply to the device are absent."""

    device: str
    families: dict[str, tuple[Comparison, ...]]
    not_implemented: tuple[str, ...] = ()  # families of which the back-end implements nothing
    precision: Precision = Precision()
    back_end: str = ""  # as `probes.kit.capabilities.back_end` names it; "" in old recordings
    capability: tuple[int, int] | None = None  # of an NVIDIA GPU
    #: Family -> operations that the back-end documents as absent, each with the error text.
    lacking: dict[str, tuple[str, ...]] = Field(default_factory=dict)

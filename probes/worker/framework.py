"""What is done to torch around a probe: defaults, synchronization, memory that is given back."""

from probes.kit.defaults import pinned
from probes.kit.memory import MemoryWatch, give_back, start
from probes.kit.tensors import synchronize

__all__ = ["MemoryWatch", "give_back", "pinned", "start", "synchronize"]

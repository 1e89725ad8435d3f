"""How many elements a trial takes: what is always tried, and what only where there is memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import torch

from probes.contract import Comparison
from probes.kit.memory import free_bytes, out_of_memory
from probes.kit.trial import LeftOut

MILLION: Final = 2**20 + 7
#: Beyond the integers that float32 can count to, and odd: it cannot hold this one.
COUNTED: Final = 2**24 + 5
#: Beyond 32-bit indices.
INDEXED: Final = 2**31 + 5

#: What is left free, as a share of what is free before.
_LEFT: Final = 0.5


@dataclass(frozen=True)
class Sized:
    """A trial with so many elements, of so many bytes each with all operands and results."""

    operation: str
    body: Callable[[int, str], Iterable[Comparison]]
    count: int
    each_bytes: float
    dtype: torch.dtype | None = None

    def run(self, device: str) -> Iterator[Comparison]:
        """Yield the comparisons.

        Raises:
            LeftOut: it would take more than half of what is free, or that cannot be told, or it
                takes more than there is: the sizes are our own, and what an operation keeps is not.
        """
        needed, free = int(self.count * self.each_bytes), free_bytes(device)
        if free is None and self.count > COUNTED:
            raise LeftOut(f"{self.count} elements: how much memory is free cannot be told")
        if free is not None and needed > free * _LEFT:
            raise LeftOut(
                f"{self.count} elements need {needed} bytes of memory, half of the {free} free "
                "ones are fewer"
            )
        try:
            yield from self.body(self.count, device)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            text = f"{self.count} elements need more than the {free} free bytes of memory"
            raise LeftOut(text) from error


def sized(
    operation: str,
    body: Callable[[int, str], Iterable[Comparison]],
    device: str,
    each_bytes: float,
    *,
    on_cpu_bytes: float = 0,
) -> Iterator[Sized]:
    """The trial with COUNTED elements, and on other devices than the CPU with INDEXED ones too.

    `on_cpu_bytes`: what each element takes there in all, where that is more.
    """
    if torch.device(device).type == "cpu":
        yield Sized(operation, body, COUNTED, max(each_bytes, on_cpu_bytes))
        return
    yield Sized(operation, body, COUNTED, each_bytes)
    yield Sized(operation, body, INDEXED, each_bytes)

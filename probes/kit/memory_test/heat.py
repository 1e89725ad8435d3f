"""Products, one after another: they warm a device while its memory is left to itself."""

import time
from typing import Final

import torch

from probes.contract import MIB
from probes.kit.memory import free_bytes, out_of_memory
from probes.kit.tensors import synchronize

#: Rows and columns: three matrices of 8 MiB, in a GPU's cache.
SIDE: Final = 2048

#: With what the product's library takes; a GPU with less than twice as much free is not heated.
HEAT_BYTES: Final = 160 * MIB

#: Between two looks at the clock.
_BATCH_S: Final = 0.05

_MOST: Final = 4096  # products in a batch


class Heat:
    """Takes its memory, and what the product's library takes, when it is made."""

    def __init__(self, device: str, dtype: torch.dtype = torch.float16, side: int = SIDE) -> None:
        """Multiply once.

        Raises:
            RuntimeError: the device has no such product, no memory for it, or is sick.
        """
        self._device = device
        # Random numbers: a product of equal ones turns few bits, and takes half of the power.
        numbers = torch.randn(side, side, generator=torch.Generator().manual_seed(side))
        self._factor = numbers.div_(side**0.5).to(device, dtype)
        self._product = torch.empty_like(self._factor)
        self._batch = 1
        self._multiply()
        self.name = f"{side}x{side} {str(dtype).removeprefix('torch.')}"
        self.products = 0

    def run(self, seconds: float) -> None:
        """Multiply for so long; the last batch may take a little longer."""
        began_s = time.monotonic()
        until_s = began_s + seconds
        while began_s < until_s:
            self._multiply()
            self.products += self._batch
            now_s = time.monotonic()
            if now_s - began_s < _BATCH_S / 2:
                self._batch = min(2 * self._batch, _MOST)
            began_s = now_s

    def _multiply(self) -> None:
        for _ in range(self._batch):
            torch.mm(self._factor, self._factor, out=self._product)
        synchronize(self._device)


def make(device: str) -> tuple[Heat | None, str]:
    """Products in a type that the device has, and why there are none.

    Raises:
        RuntimeError: the device is sick.
    """
    if torch.device(device).type == "cpu":
        return None, "the CPU is not heated"
    free = free_bytes(device)
    if free is not None and free < 2 * HEAT_BYTES:
        return None, f"no products: {free} bytes are free"
    half, why = _made(device, torch.float16)
    return (half, why) if half is not None else _made(device, torch.float32)


def _made(device: str, dtype: torch.dtype) -> tuple[Heat | None, str]:
    try:
        return Heat(device, dtype), ""
    except (RuntimeError, TypeError) as error:
        synchronize(device)  # a sick device says so
        text = "no memory" if out_of_memory(error) else (str(error).splitlines() or [""])[0]
    return None, f"no products: {text}"

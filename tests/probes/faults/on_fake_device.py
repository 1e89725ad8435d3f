"""A program that prints, as JSON, the checks that faults trip on a device that is not the host.

The device is written in Python and uses host memory (`tests.probes.fake_device`); each fault is
injected in a forked child, as the worker does.
"""

import json
import os
import sys

import torch

from probes.device_transfer import probe as device_transfer
from probes.faults.inject import apply
from tests.probes import fake_device
from tests.probes.verdicts import tripped


def _in_child(name: str) -> list[str]:
    """The checks that trip in a forked child with that fault; no fault if the name is empty."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if name:
                apply(name, fake_device.NAME)
            found = tripped(device_transfer.judge(device_transfer.observe(fake_device.NAME)))
            os.write(write, json.dumps(sorted(found)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(text) if text else ["nothing was told"]


def main() -> None:
    """Print the checks that tripped, by fault; `sound` without one."""
    torch.set_num_threads(1)
    library = fake_device.start()
    # Small buffers are enough for a device on host memory.
    device_transfer._DEVICE_BYTES = device_transfer._HOST_BYTES  # type: ignore[misc]
    found = {name or "sound": _in_child(name) for name in ("", *sys.argv[1:])}
    json.dump(found, sys.stdout)
    del library  # without this reference torch would forget the device


if __name__ == "__main__":
    main()

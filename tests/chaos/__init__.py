"""What the daemon must survive, as campaigns: `python -m tests.chaos`, of the Makefile's `chaos`.

- `disturb`: lives of the daemon on the fake accelerator under a seeded sequence of kills, freezes,
  full disks, missing descriptors and memory, clock jumps and bad clients, with its promises held
  against what it says all the while (`invariants`);
- `calls`: each call of libc that a short life of it makes, failed once (`shim.c`);
- `soak`: the growth of its memory and descriptors an hour.

Nothing here listens on, or connects to, anything but 127.0.0.1.
"""

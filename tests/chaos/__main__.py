"""`python -m tests.chaos`: what the package's docstring lists."""

import argparse
import signal
import sys

from tests.chaos import calls, disturb, soak


def main() -> int:
    """Run what was asked for; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("parts", nargs="*", help="disturb, calls, soak; default: the first two")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300, help="a part takes")
    parser.add_argument(
        "--only", default="", help="disturbances or calls whose name has this in it"
    )
    parser.add_argument("--torch", action="store_true", help="calls: of runs with torch")
    asked = parser.parse_args()
    # So that a campaign which is stopped leaves no daemon and no file system mounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parts = {
        "disturb": lambda: disturb.run(asked.seed, asked.seconds, asked.only),
        "calls": lambda: calls.run(asked.seed, asked.seconds, asked.only, with_torch=asked.torch),
        "soak": lambda: soak.run(asked.seconds),
    }
    chosen = asked.parts or ["disturb", "calls"]
    if unknown := set(chosen) - parts.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    return max([parts[name]() for name in chosen])


if __name__ == "__main__":
    sys.exit(main())

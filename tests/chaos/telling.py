"""What a campaign says as it goes: a line at a time, at once."""

import sys


def say(line: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()

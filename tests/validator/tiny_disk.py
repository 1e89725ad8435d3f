"""What tests of a full disk share."""

from pathlib import Path


def fill(folder: Path) -> Path:
    """Take all the space that is left; the file that has it."""
    rest = folder / "rest"
    with rest.open("ab", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            return rest

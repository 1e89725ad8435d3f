"""Check of copies: no second torch or NumPy that another start of Python would import."""

from collections.abc import Sequence
from typing import Final

from probes.contract import Finding, require
from probes.node.copies import NAMES, Copy

_HINT: Final = (
    "confirm with `python -c 'import torch, numpy; print(torch.__file__, numpy.__file__)'`, as the "
    "user and in the folder that the job has; remove one copy, or start Python with -s or without "
    "PYTHONPATH"
)


def one_copy(copies: Sequence[Copy]) -> Finding:
    """There is one torch and one NumPy, whoever starts Python and in whatever folder.

    Two copies in the interpreter's own folders are right: the first is always imported. A copy in
    the user's site, in PYTHONPATH or in the working folder depends on who starts Python.
    """
    by_name = {name: [each for each in copies if each.name == name] for name in NAMES}
    repeated = {name: each for name, each in by_name.items() if len(each) > 1}
    doubtful = {
        name: each
        for name, each in repeated.items()
        if any(copy.place != "own" for copy in each) or not all(copy.compiled for copy in each)
    }
    text = "; ".join(
        f"{name} is imported from {each[0].path} ({each[0].place}), and another lies in "
        + ", ".join(f"{copy.path} ({copy.place})" for copy in each[1:])
        for name, each in (doubtful or repeated).items()
    )
    return require(
        "torch_version.one_copy",
        not doubtful,
        text or [each.path for each in copies],
        "one torch and one NumPy for every start of Python",
        message=text,
        hint=_HINT,
        action="fix_image",
        otherwise="warn",
    )

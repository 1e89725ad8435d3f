"""What is observed on a device, and the verdicts on it."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from pydantic import Field

from probes import contract
from probes.contract import Comparison, Finding, agree
from probes.kit import breadcrumb
from probes.numpy_sharing import dtypes, layouts, lifetime, protection, refusals, sharing

_HINT: Final = (
    "confirm with `python -c 'import torch, numpy; print(torch.__version__, numpy.__version__, "
    "torch.from_numpy(numpy.ones(2)))'`; install torch and NumPy from one lock file (torch before "
    "2.3 needs numpy<2), then rebuild the image"
)


#: By check: every call of its family.
_FAMILIES: Final[dict[str, Callable[[], tuple[Comparison, ...]]]] = {
    **{name: partial(sharing.shared, name) for name in (*sharing.to_torch(), *sharing.to_numpy())},
    "copies": sharing.copied,
    "dtypes_to_torch": dtypes.to_torch,
    "dtypes_to_numpy": dtypes.to_numpy,
    "scalars": dtypes.scalars,
    "layouts_to_torch": layouts.imported,
    "layouts_to_numpy": layouts.exported,
    "lifetime": lifetime.lived,
    "refuses_arrays": refusals.arrays,
    "refuses_tensors": refusals.tensors,
    "readonly_warning": protection.read_only_warning,
    "resize_refused": protection.resizes,
}

#: The same where several ways are right; with the way that this pair of versions goes.
_EITHER: Final[dict[str, Callable[[], tuple[Comparison, str]]]] = {
    "readonly_dlpack": protection.read_only_by_dlpack,
    "copy_false": protection.copy_false,
}


#: torch documents that writing to a read-only array is undefined, and not that it warns.
_COURTESY: Final = "readonly_warning"


class Observation(contract.Observation):
    """For each check, every call of its family held against what is right."""

    from_numpy: tuple[Comparison, ...] = ()
    as_tensor: tuple[Comparison, ...] = ()
    frombuffer: tuple[Comparison, ...] = ()
    dlpack_import: tuple[Comparison, ...] = ()
    to_numpy: tuple[Comparison, ...] = ()
    asarray: tuple[Comparison, ...] = ()
    dlpack_export: tuple[Comparison, ...] = ()
    copies: tuple[Comparison, ...] = ()
    dtypes_to_torch: tuple[Comparison, ...] = ()
    dtypes_to_numpy: tuple[Comparison, ...] = ()
    scalars: tuple[Comparison, ...] = ()
    layouts_to_torch: tuple[Comparison, ...] = ()
    layouts_to_numpy: tuple[Comparison, ...] = ()
    lifetime: tuple[Comparison, ...] = ()
    refuses_arrays: tuple[Comparison, ...] = ()
    refuses_tensors: tuple[Comparison, ...] = ()
    readonly_warning: tuple[Comparison, ...] = ()
    readonly_dlpack: tuple[Comparison, ...] = ()
    resize_refused: tuple[Comparison, ...] = ()
    copy_false: tuple[Comparison, ...] = ()
    #: Which of several right ways this pair of versions goes, for the checks that allow several.
    notes: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Observation:  # noqa: ARG001 - a matter of the host; nothing touches a device
    """Pass small buffers to and fro, write on either side, and let go of either side first."""
    with warnings.catch_warnings():
        # Versions differ in what they deprecate at this border; the one that counts is recorded.
        warnings.simplefilter("ignore")
        observation = {name: family() for name, family in breadcrumb.families(_FAMILIES)}
        either = {name: family() for name, family in breadcrumb.families(_EITHER)}
    observation |= {name: (comparison,) for name, (comparison, _) in either.items()}
    return Observation(**observation, notes={name: note for name, (_, note) in either.items()})


def judge(observation: Observation) -> Iterator[Finding]:
    """One finding a family; where versions may differ, a passing one says what this pair does."""
    for name in Observation.model_fields:
        if name == "notes":
            continue
        finding = agree(
            f"numpy_sharing.{name}", getattr(observation, name), hint=_HINT, action="fix_image"
        )
        if finding.status == "fail" and name == _COURTESY:
            finding = finding.model_copy(update={"status": "warn"})
        if finding.status == "pass" and name in observation.notes:
            finding = finding.model_copy(update={"message": observation.notes[name]})
        yield finding

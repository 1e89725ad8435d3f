"""The observation of a device, and the findings about it."""

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


#: Check -> the comparisons of its family of calls.
_FAMILIES: Final[dict[str, Callable[[], tuple[Comparison, ...]]]] = {
    **{
        name: partial(sharing.shares, name)
        for name in (*sharing.import_calls(), *sharing.export_calls())
    },
    "copies": sharing.copies,
    "dtypes_to_torch": dtypes.to_torch,
    "dtypes_to_numpy": dtypes.to_numpy,
    "scalars": dtypes.scalars,
    "layouts_to_torch": layouts.to_torch,
    "layouts_to_numpy": layouts.to_numpy,
    "lifetime": lifetime.lifetimes,
    "refuses_arrays": refusals.arrays,
    "refuses_tensors": refusals.tensors,
    "readonly_warning": protection.read_only_warning,
    "resize_refused": protection.resizes,
}

#: Check that several behaviours satisfy -> the comparison, and which behaviour these versions have.
_EITHER: Final[dict[str, Callable[[], tuple[Comparison, str]]]] = {
    "readonly_dlpack": protection.read_only_by_dlpack,
    "copy_false": protection.copy_false,
}


#: The check that only warns: torch does not promise the warning, it documents undefined behaviour.
_WARNS_ONLY: Final = "readonly_warning"


class Observation(contract.Observation):
    """By check: the comparison of every call of its family with the right result."""

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
    #: Check -> which of several right behaviours this pair of versions has.
    notes: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Observation:  # noqa: ARG001 - only the host is observed
    """Share small buffers in both directions, write on either side, release either side first."""
    with warnings.catch_warnings():
        # Versions deprecate different calls here; the one warning that is checked is recorded.
        warnings.simplefilter("ignore")
        comparisons = {name: family() for name, family in breadcrumb.families(_FAMILIES)}
        either = {name: family() for name, family in breadcrumb.families(_EITHER)}
    comparisons |= {name: (comparison,) for name, (comparison, _) in either.items()}
    return Observation(**comparisons, notes={name: note for name, (_, note) in either.items()})


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each family; where versions may differ, it says what this pair does."""
    for name in Observation.model_fields:
        if name == "notes":
            continue
        finding = agree(
            f"numpy_sharing.{name}", getattr(observation, name), hint=_HINT, action="fix_image"
        )
        if finding.status == "fail" and name == _WARNS_ONLY:
            finding = finding.model_copy(update={"status": "warn"})
        if finding.status == "pass" and name in observation.notes:
            finding = finding.model_copy(update={"message": observation.notes[name]})
        yield finding

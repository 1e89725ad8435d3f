"""Which probes call an operation, and which check fails where it is wrong.

Each function is for a forked child: operations stay watched, or wrong.
"""

import importlib
import json
import warnings
from collections.abc import Collection, Iterable, Iterator
from typing import Final

import torch

from probes.catalog import CATALOG
from probes.contract import ProbeSpec, Status
from tests.corpus.recorder import UNWATCHED, watch_calls
from tests.corpus.spoils import inject

PROFILES: Final = ("quick", "standard")

#: The control: no operation is made wrong.
SOUND: Final = ("", "")


def specs(*, heavy: bool) -> list[ProbeSpec]:
    """The device probes of the quick profile, or those that standard adds."""
    return [
        spec
        for spec in CATALOG
        if spec.needs == "device"
        and spec.name != "cuda_available"
        and spec.profile != "deep"
        and (spec.is_heavy) == heavy
    ]


def import_probes() -> None:
    """Import what children need, before they are forked."""
    for spec in specs(heavy=False) + specs(heavy=True):
        for module in (spec.module, *spec.preload):
            importlib.import_module(module)


def _statuses(spec: ProbeSpec, device: str) -> Iterator[tuple[str, Status]]:
    probe = importlib.import_module(spec.module)
    try:
        for finding in probe.judge(probe.observe(device)):
            yield finding.id, finding.status
    except Exception as error:  # noqa: BLE001 - whatever it raises is a failure of the probe
        yield f"{spec.name}.completes ({type(error).__name__})", "fail"


def _settle() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def calls(spec: ProbeSpec, overloads: Iterable[str], device: str) -> str:
    """The operations, of those overloads, that a probe calls, as JSON.

    Raises:
        RuntimeError: a check fails while they are watched: what it calls after that is unknown.
    """
    _settle()
    found = watch_calls(overloads, device)
    failed = [check for check, status in _statuses(spec, device) if status == "fail"]
    if failed:
        raise RuntimeError(f"checks fail while the operations are watched: {', '.join(failed)}")
    return json.dumps(sorted(found))


def trial(operation: str, spoil: str, device: str, probes: Collection[str] | None = None) -> str:
    """Profile -> the check that caught the fault, as JSON: quick first, standard where none did.

    `probes`: those to run, which call the operation; None: all. Without an operation none is wrong.
    """
    _settle()
    if operation:
        inject(operation, spoil, device)
    quick = _caught(specs(heavy=False), device, probes)
    standard = quick or _caught(specs(heavy=True), device, probes)
    return json.dumps({"quick": quick, "standard": standard})


def _caught(found: list[ProbeSpec], device: str, probes: Collection[str] | None) -> str:
    """The first check that fails, or what a probe raised; empty when all hold."""
    return next(
        (
            check
            for spec in found
            if probes is None or spec.name in probes
            for check, status in _statuses(spec, device)
            if status == "fail"
        ),
        "",
    )


def callers(called: dict[str, str], operation: str) -> frozenset[str] | None:
    """The probes that call an operation, by what `calls` says of each; None: it is unknown."""
    if operation.partition(" ")[0] in UNWATCHED:
        return None
    return frozenset(probe for probe, text in called.items() if operation in json.loads(text))

"""Each check can be made without the others: a retry makes only those that failed."""

import importlib

import pytest

from probes.catalog import CATALOG
from probes.contract import ProbeSpec, Status
from probes.kit import breadcrumb

pytestmark = pytest.mark.slow

#: What a deep probe repeats for each of its checks takes a minute.
SPECS = [spec for spec in CATALOG if spec.profile != "deep"]
#: Several seconds each.
_DEAR = {"dataloader", "large_tensors", "layers", "attention", "optimizer"}
PROBES = pytest.mark.parametrize(
    "spec",
    [
        pytest.param(spec, id=spec.name, marks=pytest.mark.long if spec.name in _DEAR else ())
        for spec in SPECS
    ],
)

#: Probes that look at everything whatever is left out: a retry costs them nothing worth saving.
WHOLE = frozenset(
    {"torch_version", "cuda_available", "telemetry", "container", "float_mode", "torch_settings"}
    | {"companions"}
)


def statuses(spec: ProbeSpec, left_out: frozenset[str]) -> dict[str, Status]:
    """Check -> its status on the CPU when some checks are left out."""
    module = importlib.import_module(spec.module)
    breadcrumb.begin(left_out)
    try:
        found = tuple(module.judge(module.observe("cpu")))
    finally:
        breadcrumb.begin()
    return {finding.id.partition(".")[2]: finding.status for finding in found}


@PROBES
def test_a_check_alone_comes_to_the_same(spec: ProbeSpec) -> None:
    """Nothing that a check looks at is made by another."""
    whole = statuses(spec, frozenset())
    alone = {
        check: statuses(spec, frozenset(spec.checks) - {check})[check] for check in spec.checks
    }

    assert alone == whole


@PROBES
def test_what_is_left_out_does_not_pass(spec: ProbeSpec) -> None:
    """Else a retry would call a failure intermittent that it did not look at."""
    if spec.name in WHOLE:
        pytest.skip("it leaves nothing out")
    left = statuses(spec, frozenset(spec.checks))

    assert {check for check, status in left.items() if status == "pass"} <= {"grad_enabled"}

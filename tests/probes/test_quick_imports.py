"""No probe of the quick profile imports sympy, which costs more than all of them together.

Nor numpy.ma, which np.unique imports at its first call.

torch imports `torch.fx.experimental.symbolic_shapes`, and sympy with it, when a backward is first
given a gradient.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from probes.catalog import AUTOGRAD, BY_NAME, CATALOG
from probes.contract import PROFILES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

#: What may not be imported while a probe observes, and how many modules of other names may.
HEAVY: Final = {"sympy", "torch.fx.experimental.symbolic_shapes", "numpy.ma"}
FEW: Final = 40

QUICK: Final = [
    spec.name for spec in CATALOG if PROFILES.index(spec.profile) <= PROFILES.index("quick")
]

PROGRAM: Final = """
import importlib, json, sys, torch
probe = importlib.import_module(sys.argv[1])
before = set(sys.modules)
exec(sys.argv[2])
probe.observe("cpu")
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def imported_by(name: str, first: str = "") -> set[str]:
    """Names of the modules that a probe's observe() imports; `first` runs just before it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, BY_NAME[name].module, first],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == AUTOGRAD.name else pytest.mark.slow) for name in QUICK],
)
def test_a_quick_probe_imports_little(name: str) -> None:
    """In a fresh process with torch imported."""
    imported = imported_by(name)

    assert not HEAVY & imported
    assert len(imported) <= FEW, sorted(imported)
    assert not BY_NAME[name].preload  # which would import it before


def test_a_gradient_that_is_given_to_a_backward_is_seen() -> None:
    """The test above can fail."""
    given = "x = torch.ones(2, requires_grad=True); (x * 2).backward(torch.ones(2))"
    masked = "import numpy.ma"  # as np.unique does

    assert imported_by(AUTOGRAD.name, f"{given}; {masked}") >= HEAVY

"""A probe preloads all it imports, and a child forked after that still computes in parallel."""

import json
import subprocess
import sys
from typing import Final

import pytest

from probes.catalog import AMP, DATALOADER, GRADCHECK, LAYERS, LOSSES, OPTIMIZER
from probes.contract import ProbeSpec

pytestmark = pytest.mark.slow

#: Imports that a child may still make: a few light ones, which differ by torch version.
FEW: Final = 8

PROGRAM: Final = """
import importlib, json, os, signal, sys
import torch
for module in json.loads(sys.argv[2]):
    importlib.import_module(module)
probe = importlib.import_module(sys.argv[1])
loaded = set(sys.modules)
child = os.fork()
if child == 0:
    signal.alarm(60)
    torch.set_num_threads(2)
    torch.ones(1 << 22).add_(1)  # hangs when a parallel operation ran before the fork
    findings = list(probe.judge(probe.observe("cpu")))
    print(sorted(each.id for each in findings if each.status not in {"pass", "skip", "warn"}))
    print(json.dumps(sorted(set(sys.modules) - loaded)))
    sys.stdout.flush()
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.parametrize(
    "spec", [AMP, DATALOADER, GRADCHECK, LAYERS, LOSSES, OPTIMIZER], ids=lambda spec: spec.name
)
def test_the_preload_is_complete_and_harmless(spec: ProbeSpec) -> None:
    """A child forked after the preload computes in parallel, and imports almost nothing more."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, spec.module, json.dumps(spec.preload)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )

    findings, imported, status = done.stdout.splitlines()

    assert (findings, status) == ("[]", "0"), done.stdout + done.stderr
    assert len(json.loads(imported)) <= FEW

"""The probe's cost, schedule, thresholds and checks. Does not import torch."""

from typing import Final

from probes.contract import Frozen, ProbeSpec


class Limits(Frozen):
    """What a site promises."""

    #: The fingerprint of the settings that all nodes of the fleet have; None accepts any.
    fingerprint: str | None = None


SPEC: Final = ProbeSpec(
    name="torch_settings",
    profile="quick",
    needs="host",
    timeout_s=30,
    interval_s=300,
    memory_bytes=0,
    limits=Limits,
    checks={
        "matmul_precision": "nothing shortens float32 matrix products: no switch, no variable",
        "gradients": "gradients are recorded, and no inference mode is on",
        "kernels": "no library and no attention kernel is switched off",
        "variables": "no variable of the environment changes what torch computes, or how",
        "fingerprint": "the settings in force are those that the site has promised",
    },
    certain={"fingerprint": ()},
)

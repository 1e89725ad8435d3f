"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final, Literal

from probes.contract import MIB, Frozen, ProbeSpec


class Limits(Frozen):
    """The precision required where a variable forces shortened float32 products."""

    #: "as_set" skips what TF32 explains where a variable forces it; "exact" never does.
    float32_products: Literal["as_set", "exact"] = "as_set"


SPEC: Final = ProbeSpec(
    name="linalg",
    profile="standard",
    needs="device",
    timeout_s=240,
    interval_s=3600,
    # As part of `tensor_ops`, from which its checks come.
    memory_bytes=264 * MIB,
    memory_measured="NVIDIA H200, torch 2.11.0+cu130",
    limits=Limits,
    checks={
        "solve": "solutions, inverses and determinants are within their bounds",
        "decompose": "svd, eigh, qr and cholesky multiply back, orthonormal, known spectrum",
        "functions": "exponentials, norms, least squares and pseudoinverses by closed forms",
        "gradients": "backward passes of solutions and decompositions by closed forms",
    },
)

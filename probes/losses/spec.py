"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import MIB, ProbeSpec

SPEC: Final = ProbeSpec(
    name="losses",
    profile="standard",
    needs="device",
    timeout_s=240,
    typical_s=1.5,
    interval_s=3600,
    memory_bytes=16 * MIB,  # no tensor is larger than some KiB
    # Imported by the first binary cross entropy with weights, with sympy.
    preload=("torch.fx.experimental.symbolic_shapes",),
    checks={
        "distances": "MSE, L1, smooth L1, Huber, soft margin and hinge embedding losses",
        "binary": "binary cross entropy of shares and of logits, weighted, with pos_weight",
        "likelihoods": "KL divergence with both kinds of target, Poisson's and Gauss's likelihood",
        "nll": "nll_loss in one and two dimensions, weighted, with an ignored class",
        "cross_entropy": "cross entropy of indices and of probabilities, smoothed and weighted",
        "class_margins": "margins between classes, one right class or several",
        "pairs": "margin ranking, cosine embedding, triplet margins, and distances",
        "ctc": "CTC with several lengths, blanks and kinds of targets, and zero_infinity",
    },
)

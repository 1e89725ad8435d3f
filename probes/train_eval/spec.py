"""The probe's cost, its schedule and the promise of each check, without importing torch."""

from typing import Final

from probes.contract import BITS, MIB, ProbeSpec

SPEC: Final = ProbeSpec(
    name="train_eval",
    profile="quick",
    needs="device",
    timeout_s=60,
    interval_s=300,
    memory_bytes=128 * MIB,
    memory_measured="NVIDIA H200, torch 2.11.0+cu130",
    checks={
        "dropout_train": "in train() dropout gives 0 or x / (1 - p), as often as p says, at random",
        "dropout_channels": "Dropout1d, 2d and 3d drop whole channels",
        "dropout_alpha": "AlphaDropout keeps mean and variance by its closed form",
        "dropout_edges": "p = 0, p = 1, in place, and a p that is no chance",
        "dropout_eval": "in eval() every kind of dropout is the identity, to the bit",
        "dropout_backward": "gradients pass where values passed",
        "batch_norm_train": "in train() BatchNorm uses the batch's mean and biased variance",
        "batch_norm_statistics": "running mean and unbiased variance move by the momentum",
        "batch_norm_eval": "in eval() BatchNorm uses the frozen statistics, whatever the batch",
        "batch_norm_frozen": "in eval() no bit of statistics, counter or parameters moves",
        "batch_norm_backward": "BatchNorm's gradients in both modes, by their closed form",
        "modes_recurse": "train() and eval() reach every module below, and none above",
        "modes_behave": "layers far down follow the mode of their root",
        "no_mode": "layers without a mode give the same right answer in both modes",
        "random_slope": "RReLU draws its slope in train() and uses the middle one in eval()",
        "batch_independence": "in eval() a row's answer does not depend on its batch",
        "gradients_apart": "eval() is not no_grad(), and no_grad() is not eval()",
        "attention_modes": "attention without dropout is the same in train(), eval() and fused",
        "first_steps": "the first training steps are exact, to the bit",
        "learning": "a small model learns along NumPy's curve to the known loss",
        "repeats": "the same training twice gives the same bits, on the CPU",
        "saved": "a saved state dict loads on the host with the same names, bits and answers",
        "loads": "loading copies into the module, and refuses what does not fit",
        "module_moves": "module.to(device) moves every parameter and buffer, to the bit",
    },
    certain={"saved": BITS, "module_moves": BITS},
)

"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import BITS, MIB, ProbeSpec

SPEC: Final = ProbeSpec(
    name="optimizer",
    profile="standard",
    needs="device",
    timeout_s=240,
    typical_s=4,
    interval_s=3600,
    # Not measured. The largest list has 330,000 elements: five copies in float32 are 7 MiB.
    memory_bytes=16 * MIB,
    # Imported when the first optimizer is made, with hundreds of other modules.
    preload=("torch._dynamo",),
    checks={
        "sgd": "SGD steps as documented, with weight decay and maximize, to the bit where exact",
        "momentum": "SGD with momentum, dampening and Nesterov's, to the bit where exact",
        "adam": "Adam steps as documented, with weight decay, amsgrad and maximize",
        "adamw": "AdamW steps as documented, with weight decay apart from the gradient",
        "rmsprop": "RMSprop steps as documented, centered and with momentum",
        "adagrad": "Adagrad steps as documented, with a decaying learning rate",
        "adamax": "Adamax steps as documented",
        "nadam": "NAdam steps as documented",
        "radam": "RAdam steps as documented, before and after its rectification",
        "adadelta": "Adadelta steps as documented",
        "asgd": "ASGD steps with a rate that decays as in its article",
        "rprop": "Rprop steps as documented, with limits of the step",
        "adafactor": "Adafactor steps as documented, for vectors, matrices and stacks of them",
        "muon": "Muon steps as documented, for square, tall and wide matrices",
        "lbfgs": "L-BFGS finds the minimum of a quadratic, with and without line search",
        "sparse": "sparse gradients change the rows that they name, and no other",
        "groups": "each group of parameters steps with its own options",
        "missing_gradients": "a parameter without a gradient keeps every bit; zero_grad as told",
        "state": "an optimizer goes on from a loaded state dict as if it had never stopped",
        "schedulers": "learning rates follow the closed form of their scheduler, into the steps",
        "averaging": "averages of a model's parameters, and batch statistics of the average",
        "clipping": "gradients are clipped by their norm and by value, and only where too large",
        "foreach_kernels": "operations on lists of tensors are right for many and for large ones",
    },
    certain={"sgd": BITS, "momentum": BITS, "groups": BITS},
)

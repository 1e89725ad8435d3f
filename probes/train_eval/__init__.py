"""Models behave in train() and eval() as documented, learn as NumPy does, and are saved whole.

Why: a dropout that is alive in eval(), statistics that move when frozen, or a checkpoint that comes
     back changed cost weeks before anyone looks at the environment. Each layer is held against its
     closed form in float64, and fifty steps of training against NumPy's.
Fix: run the probe on the CPU and on another GPU. Wrong everywhere: replace this build of torch, or
     what patches it at import. Wrong on one GPU: drain the node and run the deep profile.
Ref: https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.eval
     https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html
     https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html
     https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

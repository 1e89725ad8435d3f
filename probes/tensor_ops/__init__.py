"""Creating, moving, combining and drawing tensors gives the right answer, element by element.

Why: a build with fast math, a mismatched cuBLAS, a miscompiled indexing kernel or a sick compute
     unit gives wrong numbers without an error, and a training run drifts for days before it shows.
Fix: run the probe on another device and on the CPU: wrong on one device only, drain it; wrong
     everywhere, reinstall torch as it was pinned.
Ref: https://docs.pytorch.org/docs/stable/torch.html
     https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html
"""

"""Every tensor core and FMA unit of every multiprocessor computes right, by name, cold and hot.

Why: one unit of one multiprocessor that is wrong, with some types, or when it is hot, spoils a
     training run without an error; a product of a library does not say where it ran.
Fix: run it again; wrong at the same multiprocessor again: drain the node, reset the GPU, and
     replace it when it comes back; wrong on all of them alike: the driver or this probe.
Ref: https://docs.nvidia.com/cuda/parallel-thread-execution/#warp-level-matrix-instructions
     https://arxiv.org/abs/1804.06826
"""

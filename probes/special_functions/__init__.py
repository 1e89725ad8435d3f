"""Functions that a GPU build compiles at their first use give the right answers.

Why: torch's CUDA and HIP builds hold no code for these operations: a run-time compiler makes it on
     the node, so that the driver, the compiler library and the cache on disk can spoil it there.
Fix: clear the cache (PYTORCH_KERNEL_CACHE_PATH, else ~/.cache/torch/kernels) and run the probe
     again; still wrong on one device only, drain it; wrong everywhere, reinstall torch.
Ref: https://docs.pytorch.org/docs/stable/special.html
     https://docs.pytorch.org/docs/stable/cuda_environment_variables.html
"""

"""The torch in this image is installed whole, and fits its GPUs, its driver and its NumPy.

Why: most sick nodes are sick images: a resolver took the CPU build, the driver is too old for the
     wheel, the wheel has no code for this GPU, a system cuDNN comes before the wheel's, NumPy 2
     meets a torch of NumPy 1. Each of these is told here by name, before any kernel runs.
Fix: install torch and NumPy from one lock file, for this node's driver and GPUs, in a fresh
     environment; keep system CUDA libraries out of LD_LIBRARY_PATH.
Ref: https://docs.nvidia.com/deploy/cuda-compatibility/
     https://docs.nvidia.com/cuda/cuda-c-programming-guide/#application-compatibility
     https://packaging.python.org/en/latest/specifications/version-specifiers/
     https://numpy.org/doc/stable/dev/depending_on_numpy.html
"""

"""All of the device's free memory holds every pattern that is written to it, for a while too.

Why: a weak cell fails with some neighbours, after some time or in one direction alone; one pattern
     over half of the memory does not meet it.
Fix: drain the node and reset the GPU; replace it when a word is wrong again.
Ref: https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/index.html
     https://github.com/ComputationalRadiationPhysics/cuda_memtest
"""

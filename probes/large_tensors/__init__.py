"""Tensors of more than 2^20, 2^24 and 2^31 elements are computed, moved and searched right.

Why: a kernel that counts its elements or addresses in 32 bits, or in float32, is right for small
     tensors and silently wrong beyond a limit: past 2^24, 2^31, or 65,535 blocks of a launch.
Fix: compare with another release of torch on the same device: wrong in one only, change the
     release; wrong on one device only, drain it.
Ref: https://github.com/pytorch/pytorch/issues/143486
     https://docs.nvidia.com/cuda/cuda-c-programming-guide/#compute-capabilities
"""

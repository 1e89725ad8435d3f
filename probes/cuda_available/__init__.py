"""Every GPU of this machine can be used by torch, and a first kernel on it is right.

Why: `torch.cuda.is_available()` hides why it says no, and says yes while CUDA cannot start; a CPU
     build of torch on a GPU node looks like a machine without GPUs. So the hardware, the driver,
     NVML and torch are each asked for themselves, and a kernel has to give an exact answer.
Fix: the finding's hint names a command that confirms the cause, and what to do.
Ref: https://docs.pytorch.org/docs/stable/notes/cuda.html
     https://docs.pytorch.org/docs/stable/accelerator.html
     https://github.com/pytorch/pytorch/issues/35710
"""

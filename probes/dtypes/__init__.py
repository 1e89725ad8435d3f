"""Operations are right in every type: half, integer, boolean and complex, not in float32 alone.

Why: a back-end has a kernel for each type, compiled apart: training in half precision, masks and
     indices call hundreds that float32 never reaches, and one that is wrong there stays unseen.
Fix: run the probe on another device and on the CPU: wrong on one device only, drain it; wrong
     everywhere, reinstall torch as it was pinned.
Ref: https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.dtype
     https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html
"""

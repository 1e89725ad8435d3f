"""An operation's answer does not depend on how its operands and its output lie in memory.

Why: users hand over slices, transposes, expanded masks and channels_last images; each layout takes
     a kernel or a path of its own, and a wrong one raises nothing and may write over others.
Fix: call .contiguous() on what the failing operation is given, to train meanwhile; wrong on one
     device only, drain it; wrong on the CPU of the same image too, change torch.
Ref: https://docs.pytorch.org/docs/stable/tensor_view.html
     https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch-memory-format
"""

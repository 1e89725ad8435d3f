"""Matrix products of real sizes are exact in every type, layout and library that the device has.

Why: a library has hundreds of kernels for products and chooses one by type, shape, layout and
     alignment; training reaches those for long sums and odd sizes, which small products never do.
Fix: compare with another device and with the CPU: wrong on one device only, drain it and reset the
     GPU; wrong everywhere, reinstall torch and its cuBLAS as they were pinned.
Ref: https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html
     https://docs.nvidia.com/cuda/cublas/
     https://arxiv.org/abs/2605.04213
"""

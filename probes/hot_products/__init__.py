"""A hot device multiplies right: each of thousands of products is the one that the host computed.

Why: some units compute wrong only when they are hot, once in thousands of products, in a few bits;
     a burn-in that compares a GPU with itself, or within a tolerance, does not see it.
Fix: run it again; wrong again on this device alone, drain the node, reset the GPU, and replace it
     when it comes back.
Ref: https://arxiv.org/abs/2605.04213
     https://doi.org/10.1145/3600006.3613149
     https://github.com/wilicc/gpu-burn
"""

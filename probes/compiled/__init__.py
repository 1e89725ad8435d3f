"""A compiled function gives the answers and gradients of the function that was compiled.

Why: compiled training runs code that was written a moment ago, by a compiler with thousands of
     rewrites: a wrong one gives a wrong gradient, or yesterday's constant, without an error.
Fix: torch.compile(..., backend="aot_eager") tells whether the code generator is wrong, "eager"
     whether the capture is; leave the function out by torch.compiler.disable, and change torch.
Ref: https://docs.pytorch.org/docs/stable/generated/torch.compile.html
     https://docs.pytorch.org/docs/stable/torch.compiler_troubleshooting.html
     https://docs.pytorch.org/docs/stable/torch.compiler_dynamic_shapes.html
"""

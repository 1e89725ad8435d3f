"""Derivatives equal finite differences, and backward multiplies by the gradient it is given.

Why: a derivative formula that is off by a thousandth raises nothing, and few closed forms reach a
     library's own operations. Reverse mode computes products of a given vector with a Jacobian: a
     caller that gives that vector must get the product, and one that gives none must be refused.
     Both need a part of torch that takes about a second to import, which `autograd` does without.
Fix: repeat on the CPU of the same image: if it fails there too, reinstall torch and look for what
     patches it at import; if only this GPU fails, drain the node; if all GPUs fail, change torch.
Ref: https://docs.pytorch.org/docs/stable/notes/gradcheck.html
     https://docs.pytorch.org/docs/stable/generated/torch.autograd.backward.html
"""

"""Gradients are right, and the engine that computes them keeps its promises.

Why: a wrong gradient raises nothing: training goes on and ends in a model that is worse than it
     should be. A backward kernel that drops colliding updates, a derivative that is off by a
     thousandth, a library that switches gradients off at import: none of them shows in a forward.
Fix: repeat on the CPU of the same image: if it fails there too, reinstall torch and look for what
     patches it at import; if only this GPU fails, drain the node; if all GPUs fail, change torch.
Ref: https://docs.pytorch.org/docs/stable/notes/autograd.html
"""

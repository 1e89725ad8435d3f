"""The optimizers of torch.optim step as their documented algorithms do, in every implementation.

Why: an optimizer has up to three implementations (for-loop, foreach, fused), each with kernels of
     its own; one that is wrong raises nothing, and the model trains a little worse.
Fix: wrong in one implementation only: train with foreach=False, fused=False and change torch; wrong
     on one device only, drain it; wrong everywhere, look for what patches torch.optim at import.
Ref: https://docs.pytorch.org/docs/stable/optim.html
     https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
"""

"""Automatic mixed precision computes, caches, scales and skips as torch documents it.

Why: autocast decides the type of each operation of a model and GradScaler which steps are taken; a
     cast that is missing, cached wrongly or not undone raises nothing, and the model trains a
     little worse, or some of its weights not at all.
Fix: wrong on the CPU of the same image too: change torch, or look for what patches torch.amp; wrong
     on one device only, drain it. no_grad_cache alone: torch.autocast(..., cache_enabled=False).
Ref: https://docs.pytorch.org/docs/stable/amp.html
     https://docs.pytorch.org/docs/stable/notes/amp_examples.html
     https://github.com/pytorch/pytorch/pull/165068
"""

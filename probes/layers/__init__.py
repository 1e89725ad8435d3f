"""The layers that models are made of are right, forward and backward, in each type.

Why: each type, shape and memory format gets a kernel of its own, from libraries that change with
     the image (cuDNN, MIOpen, oneDNN); a model with a wrong one trains without an error.
Fix: compare with a second device and the same image: wrong there too, change the image; wrong on
     one device only, drain it.
Ref: https://docs.pytorch.org/docs/stable/nn.functional.html
     https://docs.pytorch.org/docs/stable/checkpoint.html
"""

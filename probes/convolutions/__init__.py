"""Convolutions of every kind are right, forward and backward, whatever algorithm a library picks.

Why: a library has dozens of kernels (implicit products, Winograd, FFT, depthwise, NHWC, NCHW) and
     picks one by shape, type, layout and version; a wrong one trains a little worse, silently.
Fix: wrong with one algorithm or layout only: set torch.backends.cudnn.deterministic = True, or
     contiguous() images, meanwhile; wrong on one device only, drain it; else change cuDNN or torch.
Ref: https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html
     https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html
     https://docs.nvidia.com/deeplearning/cudnn/frontend/latest/operations/Convolutions.html
"""

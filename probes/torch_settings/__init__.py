"""The settings that decide torch's arithmetic are torch's own, and nobody changed them unasked.

Why: one line in a sitecustomize, a plug-in or an image's environment shortens every matrix product
     of float32 to 10 bits, turns gradients off or takes a kernel away, and no job says so.
Fix: search the image's environment, sitecustomize.py, *.pth files and torch's plug-ins for the
     setting that the finding names; where it is wanted, promise it: the fingerprint in
     `probes.torch_settings.limits.fingerprint`.
Ref: https://docs.pytorch.org/docs/stable/generated/torch.set_float32_matmul_precision.html
     https://docs.pytorch.org/docs/stable/backends.html
     https://github.com/pytorch/pytorch/issues/84334
"""

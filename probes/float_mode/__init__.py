"""The processor computes as IEEE 754 says: subnormal numbers are kept, and sums round to nearest.

Why: a library that was built with -ffast-math sets a mode of the processor when it is loaded, and
     from then on every library of the process loses small numbers, or rounds another way.
Fix: find the library: `python -c 'import numpy; print(numpy.float32(1e-40) * 1)'`, with one import
     more each time; pin another build of it.
Ref: https://docs.pytorch.org/docs/stable/generated/torch.set_flush_denormal.html
     https://gcc.gnu.org/wiki/FloatingPointMath
     https://github.com/ashvardanian/NumKong/issues/328
"""

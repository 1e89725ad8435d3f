"""A tensor on the host and the NumPy array that it came from are one buffer, until asked to copy.

Why: loaders, tokenizers and loggers hand batches over without copying. A torch and a NumPy that
     were not built for each other turn that into a crash, a silent copy (writes are lost) or a
     buffer that is gone while it is still read.
Fix: install torch and NumPy from one lock file, then rebuild the image; torch before 2.3 needs
     numpy<2. Nothing in the image may replace parts of either.
Ref: https://docs.pytorch.org/docs/stable/generated/torch.from_numpy.html
     https://docs.pytorch.org/docs/stable/generated/torch.Tensor.numpy.html
     https://numpy.org/doc/stable/user/basics.interoperability.html
"""

"""Solutions, inverses and decompositions of matrices are right within LAPACK's bounds.

Why: each back-end takes them from libraries of its own (cuSOLVER, MAGMA, rocSOLVER, LAPACK), whose
     versions differ from image to image; optimizers, whitening and initialisers rest on them.
Fix: compare with a second device and the same image: wrong there too, change the image; wrong on
     one device only, drain it.
Ref: https://docs.pytorch.org/docs/stable/linalg.html
     https://www.netlib.org/lapack/lug/node72.html
"""

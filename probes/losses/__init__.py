"""Losses and their gradients equal their formulas, with each option and reduction.

Why: a loss that is a little wrong still falls, and the model that it trains is worth nothing; some
     losses are kernels of their own in each back-end, as CTC is.
Fix: compare with a second device and the same image: wrong there too, change the image; wrong on
     one device only, drain it.
Ref: https://docs.pytorch.org/docs/stable/nn.html#loss-functions
     https://docs.pytorch.org/docs/stable/generated/torch.nn.CTCLoss.html
"""

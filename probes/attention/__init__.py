"""Attention is softmax(QK'/sqrt(d))V, forward and backward, whatever kernel torch picks.

Why: each type, shape, mask and version of torch gets another fused kernel, and a model on a wrong
     one trains and answers without an error.
Fix: compare with a second device and the same image: wrong there too, change the image; wrong on
     one device only, drain it. torch.nn.attention.sdpa_kernel leaves a wrong kernel out meanwhile.
Ref: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
     https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html
     https://docs.pytorch.org/docs/stable/generated/torch.nn.attention.sdpa_kernel.html
"""

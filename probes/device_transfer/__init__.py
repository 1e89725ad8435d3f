"""Every bit that is copied to a device, from it, or on it, arrives.

Why: a bad cable, slot, IOMMU setting or driver loses or reorders bytes while every call reports
     success: copies that gave zeros, stale or truncated data are on record. So each side makes the
     same integers for itself, and each direction is judged where its copies arrive.
Fix: run the probe again and on another GPU. One direction of one GPU: reseat it, check its PCIe
     link and `dmesg`, drain the node. All GPUs: IOMMU or ACS settings, then the driver. On the CPU:
     the build of torch in this image.
Ref: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.to.html
     https://docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html
     https://github.com/pytorch/pytorch/issues/87363
     https://github.com/pytorch/pytorch/issues/127612
"""

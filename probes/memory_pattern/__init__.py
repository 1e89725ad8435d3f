"""Half of the device's free memory holds what is written to it, at the address it was written to.

Why: a cell that is stuck, or an address line that leads elsewhere, corrupts weights in silence;
     error correction hides single bits and does not see a wrong address.
Fix: drain the node and reset the GPU; replace it when a word is wrong again.
Ref: https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/index.html
     https://arxiv.org/abs/2503.11901
"""

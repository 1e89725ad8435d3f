"""Batches arrive whole, in order and by seed, whatever becomes of the processes that load them.

Why: a loader that repeats or drops samples, gives workers the same random numbers or loses an error
     trains on other data without a word; one whose shared memory is small dies in mid-training.
Fix: a wrong order, batch or seed is the image's: reinstall torch, and look for what patches
     torch.utils.data at import. Too little shared memory is the container's: start it with
     `--shm-size=8g` or `--ipc=host`, or mount an emptyDir with `medium: Memory` on /dev/shm.
Ref: https://docs.pytorch.org/docs/stable/data.html
     https://docs.pytorch.org/docs/stable/notes/randomness.html#dataloader
     https://docs.pytorch.org/docs/stable/notes/multiprocessing.html
"""

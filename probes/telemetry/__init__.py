"""The boards report no damage: memory errors, lost rows or links, heat, errors in the log.

Why: a GPU that counts uncorrected memory errors, has lost a link or asks for a reset goes on to
     compute, slower or wrong, until a job dies of it; the board itself knows before.
Fix: do what the finding's action says: reset the GPU, reboot or drain the node; compare with
     `nvidia-smi -q` and `dmesg | grep -i xid`.
Ref: https://docs.nvidia.com/deploy/nvml-api/index.html
     https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/index.html
     https://docs.nvidia.com/deploy/dynamic-page-retirement/index.html
     https://docs.nvidia.com/deploy/xid-errors/index.html
"""

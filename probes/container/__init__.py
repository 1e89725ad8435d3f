"""The container gives a job what it needs: device nodes, shared memory, limits, clock, disk.

Why: most jobs that die on a sound node die of what surrounds them: a device node that a reload of
     systemd took away, 64 MiB of shared memory, 256 open files, a full disk.
Fix: do what the finding says; most of it is an option of the container engine or of the pod.
Ref: https://github.com/NVIDIA/nvidia-container-toolkit/issues/48
     https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html
     https://github.com/pytorch/pytorch/issues/5040
"""

"""What can be read about a node without using a tensor: PCI hardware, libcuda, NVML, devices.

It only reads: judging is left to the probes.
"""

"""What is seen of a node without a tensor: PCI hardware, libcuda, NVML, the survey of devices.

Never a verdict.
"""

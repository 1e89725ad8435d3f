"""What probes share: what a device has and lacks, what may shorten products, pinned defaults."""

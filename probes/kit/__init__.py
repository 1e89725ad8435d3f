"""What probes share: what a device has and lacks, and what a probe is about to do."""

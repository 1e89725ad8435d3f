"""What probes share: capabilities, precision, pinned defaults, and where a probe is."""

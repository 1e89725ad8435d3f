"""What probes share: references, readings of a device, pinned defaults; no probe's own rules."""

"""Code that probes share: references, device properties, pinned defaults; no probe's own rules."""

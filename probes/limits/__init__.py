"""Thresholds that a site may set, one module a probe; importable without torch."""

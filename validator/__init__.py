"""The service around the probes. Never imports torch or NumPy."""

__version__ = "0.1.0"

"""The probes, one package each. Only this package imports torch and NumPy."""

"""What is checked: one module a probe. torch and NumPy live here and nowhere else."""

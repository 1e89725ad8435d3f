"""A report, and the catalogue, as text for people and for CI.

Never a verdict of its own: what is shown was decided before.
"""

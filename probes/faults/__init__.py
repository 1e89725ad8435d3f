"""The ways to break the environment on purpose, and the checks that each must trip.

Data alone: importable without torch. What does the breaking is `probes.faults.inject`, which the
worker loads in a forked child, only when a fork request names a fault; it ends with that child.
"""

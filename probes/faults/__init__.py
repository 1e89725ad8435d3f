"""Faults: ways to break the environment on purpose, and the checks that each must trip.

Only data, importable without torch. `probes.faults.inject` injects the faults: the worker imports
it in a forked child, only when a fork request names a fault, and the fault ends with that child.
"""

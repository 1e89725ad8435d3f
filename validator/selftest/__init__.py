"""Faults on purpose: each is injected into a child of its own, and its checks must trip.

Never a report of the node: what ran under a fault says nothing about it.
"""

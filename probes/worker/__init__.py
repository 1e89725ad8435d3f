"""The process that imports torch once and runs probes in forked children.

Names no probe: it is told which. The only broad `except` is here.
"""

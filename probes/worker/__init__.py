"""The process that imports torch once and runs probes in forked children.

It contains no probe names: requests say which to run. Only this package has a broad `except`.
"""

"""Plan to report: starts the worker, forks a child a device, kills what hangs, tells what died.

Never torch, NumPy or a driver; nothing of HTTP, of schedules, of terminals.
"""

"""The command line: one module a command, and what they share.

No other wing imports it; it decides nothing but the exit code.
"""

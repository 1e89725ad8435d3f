"""The daemon: schedule, latest results, metrics, HTTP, files on the node, and who asks it.

Never torch or a driver, and nothing that parses a command line.
"""

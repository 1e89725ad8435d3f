"""What tests of a device's memory share: patterns, blocks, writing and checking, what was wrong."""

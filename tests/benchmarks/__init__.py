"""What DESIGN's budgets are measured by: `python -m tests.benchmarks`, both sides in one run."""

#: Series on each side of the scrape comparison: the budget of a node of 8 GPUs.
SERIES = 1400

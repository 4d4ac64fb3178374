"""Benchmarks against plain implementations and other packages: `python -m scripts.bench`, `make bench`.

Every row runs its sides in turn, several times, in one process on one device, and shows the medians, the ratios and,
beside each time, the strength of the result. docs/performance.md has the results.
"""

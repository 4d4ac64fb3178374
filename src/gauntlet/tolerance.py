"""The tolerance for rounding in comparisons with a bound or a radius."""

TOLERANCE = 1e-4
"""Of the bound: φ is a long sum, and its float32 rounding depends on the batch."""

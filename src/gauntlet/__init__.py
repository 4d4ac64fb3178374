"""Gauntlet: train image classifiers to be robust to unforeseen attacks, and measure how robust they are."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gauntlet-robustness")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"

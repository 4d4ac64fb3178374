"""Gauntlet: train image classifiers against attacks nobody trained them on, and measure whether they hold."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gauntlet-robustness")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"

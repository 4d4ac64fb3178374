"""Datasets: every example has a stable id, every dataset a fingerprint."""

from gauntlet.data.digits import Digits
from gauntlet.data.examples import Batch, EpochBatches, Examples
from gauntlet.data.module import ImageData, Splits

__all__ = ["Batch", "Digits", "EpochBatches", "Examples", "ImageData", "Splits"]

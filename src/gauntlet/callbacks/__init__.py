"""Lightning callbacks: going on after a stop, and showing how far training is."""

from gauntlet.callbacks.progress import progress
from gauntlet.callbacks.resume import KeepResumable

__all__ = ["KeepResumable", "progress"]

"""Faster passes with the same results: folded batch norms while a search lasts, and channels last.

`folded` is the one hook of `Search`; `channels_last` is applied where a network is built.
"""

from gauntlet.acceleration.folding import Folding, Probe, folded
from gauntlet.acceleration.memory_layout import channels_last

__all__ = ["Folding", "Probe", "channels_last", "folded"]

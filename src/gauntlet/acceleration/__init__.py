"""Faster passes with the same results: folded batch norms while a search lasts, and channels last.

`folded` is the one hook of `Search`; `channels_last` is applied where a network is built.
"""

from gauntlet.acceleration import Folding, Probe, channels_last, folded

__all__ = ["Folding", "Probe", "channels_last", "folded"]

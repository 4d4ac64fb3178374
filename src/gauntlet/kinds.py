"""The four kinds of evidence that an entry of a suite produces about an example."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What an entry of a suite is, and so what its records say."""

    ATTACK = "attack"
    """A search inside a threat model, at its bound: still correct, or not."""
    MINIMUM_DISTANCE = "minimum_distance"
    """A search for the nearest image that is classified wrongly: a distance, and so an answer at every bound."""
    CERTIFICATE = "certificate"
    """A proof: a radius within which the prediction cannot change, or an abstention."""
    TRANSFORM = "transform"
    """An image that is not searched for: the clean one, a common corruption."""

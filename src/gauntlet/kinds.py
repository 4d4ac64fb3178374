"""The four kinds of evidence that an entry of a suite produces about an example."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class Kind(StrEnum):
    """The kind of an entry of a suite, which decides the columns of its records."""

    ATTACK = "attack"
    """A search inside a threat model, at its bound: still correct or not."""
    MINIMUM_DISTANCE = "minimum_distance"
    """A search for the nearest misclassified image: a distance, which gives the result at every bound."""
    CERTIFICATE = "certificate"
    """A proof: a radius within which the prediction cannot change, or an abstention."""
    TRANSFORM = "transform"
    """An image without a search: the clean image, a common corruption."""

    @property
    def phrase(self) -> str:
        """The kind with its article, as messages name it."""
        if self is Kind.MINIMUM_DISTANCE:
            return "a minimum-distance attack"
        return f"an {self.value}" if self is Kind.ATTACK else f"a {self.value}"


IMAGE_KINDS = (Kind.ATTACK, Kind.MINIMUM_DISTANCE, Kind.TRANSFORM)
"""Kinds whose evidence is an image: an upper bound on robust accuracy."""


def one_of(kinds: Sequence[Kind]) -> str:
    """Kinds for a message: an attack, a minimum-distance attack or a transform."""
    *others, last = (kind.phrase for kind in kinds)
    return f"{', '.join(others)} or {last}" if others else last

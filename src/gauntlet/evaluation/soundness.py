"""The soundness check: no adversarial image may lie within the radius that a certificate states.

For one example, certified radius ≤ true robustness ≤ distance found by an attack. A violation is a bug in one of the
two, or, for a certificate with a confidence, one of the errors that the confidence allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from gauntlet.evaluation.flags import Flag
from gauntlet.kinds import Kind
from gauntlet.tolerance import TOLERANCE

_POWER = 0.5
"""Attacks at a multiple of the radius must break at least this share of examples, or the check has no power."""


@dataclass(frozen=True)
class Soundness:
    """The result of the check of one certificate."""

    certificate: str
    attacks: Sequence[str]
    """Attacks on the same threat model."""
    examples: int
    """Number of certified examples."""
    contradicted: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """By attack, ids of examples misclassified within their radius; for a vote, also by fresh draws."""
    vote_only: int = 0
    """Number of examples where an attack changed the vote of fixed draws within the radius, but not of fresh draws."""
    abstained: int = 0
    """Number of such examples for which fresh draws abstained."""
    allowed: float = 0.0
    """Expected number of wrong radii that the confidence allows."""
    multiple: float | None = None
    """Multiple of the radius at which attacks were run to show that the check has power; None if none could be run."""
    broken: float = 0.0
    """Share of examples that these attacks broke."""
    tried: int = 0
    """Number of examples they were run on."""

    @property
    def wrong(self) -> list[int]:
        """Ids of all contradicted examples."""
        return sorted({one for ids in self.contradicted.values() for one in ids})

    def flags(self) -> list[Flag]:
        """Return two flags of the certificate: for contradictions, and for a check without power."""
        if not self.examples:
            return []
        flags = [Flag("soundness", self.certificate, len(self.wrong) / self.examples, self._threshold, self.words())]
        if self.multiple is not None:
            why = (
                f"share of examples left correct by {', '.join(self.attacks)} within {self.multiple:g} times the"
                f" certified radius: attacks this weak cannot contradict a certificate, or the radius is far too large"
            )
            flags.append(Flag("soundness power", self.certificate, 1 - self.broken, 1 - _POWER, why))
        return flags

    @property
    def _threshold(self) -> float:
        return self.allowed / self.examples

    def words(self) -> str:
        """Describe the result in a sentence."""
        parts = [f"examples {_listed(ids)} by {attack}" for attack, ids in self.contradicted.items() if ids]
        text = "share of certified examples that an attack breaks within the certified radius, a bug in one of the two"
        if parts:
            text += f": {'; '.join(parts)}"
        if self.allowed:
            text += (
                f"; the confidence allows {self.allowed:.3g} wrong radii; of {self.vote_only} more the vote of fixed"
                f" draws alone was broken, of {self.abstained} fresh draws abstained"
            )
        return text


def _listed(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
    return ", ".join(map(str, ids[:10])) + more


def within_radius(certified: pl.DataFrame, attacked: pl.DataFrame, kind: Kind, bound: float) -> pl.Series:
    """Return ids of examples whose class an attack changed within the certified radius.

    Distances above the radius by no more than the tolerance for rounding count as outside.

    Args:
        certified: records of a certificate.
        attacked: records of an attack on the same threat model.
        kind: kind of the attack, at a bound or of minimum distance.
        bound: bound of the attack's threat model.
    """
    if kind is Kind.MINIMUM_DISTANCE:
        distance = pl.col("distance")
    else:
        changed = (pl.col("clean_prediction") == pl.col("label")) & ~pl.col("correct")
        distance = pl.when(changed).then(pl.col("size").cast(pl.Float64) * bound).otherwise(float("inf"))
    joined = certified.filter(~pl.col("abstained")).join(
        attacked.select("example_id", attacked_distance=distance, clean="clean_prediction", truth="label"),
        on="example_id",
    )
    right = pl.col("clean") == pl.col("truth")  # misclassified clean images have distance 0 and were not attacked
    same = pl.col("prediction") == pl.col("clean")
    near = right & same & (pl.col("attacked_distance") * (1 + TOLERANCE) <= pl.col("radius"))
    return joined.filter(near)["example_id"]


def disagreements(certified: pl.DataFrame) -> pl.Series:
    """Return ids of examples whose certified class is not the classifier's: a contradiction at distance 0."""
    return certified.filter(~pl.col("abstained") & (pl.col("prediction") != pl.col("clean_prediction")))["example_id"]

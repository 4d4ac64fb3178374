"""The soundness check: no image that an attack found may lie within a radius that a certificate states.

For one example, certified radius ≤ true robustness ≤ distance found by an attack. An example for which that is not so
is a bug in one of the two, or, of a certificate at a confidence, one of the errors that it allows itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from gauntlet.checks import TOLERANCE
from gauntlet.evaluation.flags import Flag
from gauntlet.kinds import Kind

_POWER = 0.5
"""The share of examples that attacks at a multiple of the radius must break, or the check proves nothing."""


@dataclass(frozen=True)
class Soundness:
    """What attacks said of one certificate."""

    certificate: str
    attacks: Sequence[str]
    """Those on the same threat model."""
    examples: int
    """Certified examples that the attacks were held against."""
    contradicted: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """By attack: ids of examples that are wrong within their radius; of a vote, also by fresh draws."""
    vote_only: int = 0
    """Examples of which the vote of fixed draws was broken within the radius, and fresh draws stood by the class."""
    abstained: int = 0
    """Examples likewise, of which fresh draws abstained."""
    allowed: float = 0.0
    """How many wrong radii the confidence allows in expectation."""
    multiple: float | None = None
    """Of the radius, within which attacks were run to show that the check can fail; None where none could be."""
    broken: float = 0.0
    """The share of examples that they broke there."""
    tried: int = 0
    """The number of these examples."""

    @property
    def wrong(self) -> list[int]:
        """Ids of all contradicted examples."""
        return sorted({one for ids in self.contradicted.values() for one in ids})

    def flags(self) -> list[Flag]:
        """Two flags on the certificate: contradictions, and a check without power."""
        if not self.examples:
            return []
        found = [Flag("soundness", self.certificate, len(self.wrong) / self.examples, self._threshold, self.words())]
        if self.multiple is not None:
            why = (
                f"share of examples that {', '.join(self.attacks)} leave correct within {self.multiple:g} times the"
                f" certified radius: attacks this weak cannot contradict a certificate, or the radius is far too large"
            )
            found.append(Flag("soundness power", self.certificate, 1 - self.broken, 1 - _POWER, why))
        return found

    @property
    def _threshold(self) -> float:
        return self.allowed / self.examples

    def words(self) -> str:
        """What was found, in a sentence."""
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
    """Ids of examples whose class an attack changed within the certified radius.

    Distances beyond the radius by no more than rounding count as outside: two programs computed them in floating point.

    Args:
        certified: records of a certificate.
        attacked: records of an attack on the same threat model.
        kind: of the attack: at a bound, or of minimum distance.
        bound: of the attack's threat model.
    """
    if kind is Kind.MINIMUM_DISTANCE:
        distance = pl.col("distance")
    else:
        changed = (pl.col("clean_prediction") == pl.col("label")) & ~pl.col("correct")
        distance = pl.when(changed).then(pl.col("size").cast(pl.Float64) * bound).otherwise(float("inf"))
    joined = certified.filter(~pl.col("abstained")).join(
        attacked.select("example_id", found=distance, before="clean_prediction", truth="label"), on="example_id"
    )
    right = pl.col("before") == pl.col("truth")  # others have distance 0, and are not attacked
    same = pl.col("prediction") == pl.col("before")
    near = right & same & (pl.col("found") * (1 + TOLERANCE) <= pl.col("radius"))
    return joined.filter(near)["example_id"]


def disagreements(certified: pl.DataFrame) -> pl.Series:
    """Ids of examples to which the certificate and the classifier give other classes: a change at distance 0."""
    return certified.filter(~pl.col("abstained") & (pl.col("prediction") != pl.col("clean_prediction")))["example_id"]

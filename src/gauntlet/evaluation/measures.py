"""What outcomes say: accuracies, their union, the unseen mean, each with an interval. Pure functions of records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from gauntlet.errors import UserError

_Z = 1.959963984540054  # the normal quantile of a two-sided 95 % interval


class Accuracy(NamedTuple):
    """A share of examples with its 95 % interval, all in [0, 1]."""

    value: float
    low: float
    high: float
    examples: int


def wilson(value: float, examples: int) -> Accuracy:
    """Wilson's score interval (1927) of a share of independent examples.

    For a mean of per-example numbers in [0, 1], whose variance is at most a share's, it is on the safe side.
    """
    if examples < 1:
        raise ValueError("an interval of no examples")
    spread = _Z * math.sqrt(value * (1 - value) / examples + _Z**2 / (4 * examples**2))
    scale, centre = 1 + _Z**2 / examples, value + _Z**2 / (2 * examples)
    return Accuracy(value, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale), examples)


def accuracy(outcomes: pl.DataFrame) -> Accuracy:
    """The share of examples still right."""
    return wilson(float(outcomes["robust"].mean() or 0.0), len(outcomes))  # type: ignore[arg-type]


def union_accuracy(outcomes: Sequence[pl.DataFrame]) -> Accuracy:
    """The share of examples still right under every attack."""
    right = _side_by_side(outcomes)
    return wilson(float(right.select(pl.all_horizontal(pl.all())).to_series().mean() or 0.0), len(right))  # type: ignore[arg-type]


def mean_accuracy(outcomes: Sequence[pl.DataFrame]) -> Accuracy:
    """The unweighted mean over attacks of the share of examples still right."""
    right = _side_by_side(outcomes)
    return wilson(float(right.select(pl.mean_horizontal(pl.all())).to_series().mean() or 0.0), len(right))  # type: ignore[arg-type]


def unseen(threat_models: Mapping[str, str], trained_on: Sequence[str]) -> list[str]:
    """The attacks whose mean is the unseen mean: threat models not trained on, each once (Laidlaw et al. 2021).

    Args:
        threat_models: of every attack of the suite, by attack.
        trained_on: names of threat models.

    Where several attacks search the same threat model the last of them stands for it; clean images are no threat.
    """
    standing = {threat: attack for attack, threat in threat_models.items() if threat not in {"clean", *trained_on}}
    return list(standing.values())


def _side_by_side(outcomes: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row per example, one column per attack: whether it is still right."""
    first = outcomes[0]["example_id"]
    for frame in outcomes[1:]:
        if not frame["example_id"].equals(first):
            raise UserError(
                f"attacks were measured on different examples ({len(first)} and {len(frame)} of them):"
                " finish the evaluation before a union is taken"
            )
    return pl.DataFrame({str(i): frame["robust"] for i, frame in enumerate(outcomes)})

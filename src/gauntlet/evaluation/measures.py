"""What outcomes say: accuracies, their union, the unseen mean, each with an interval. Pure functions of records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from gauntlet.errors import UserError

Z95 = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


class Accuracy(NamedTuple):
    """A share of examples with its 95 % interval, all in [0, 1]."""

    value: float
    low: float
    high: float
    examples: int


def wilson(value: float, examples: float) -> Accuracy:
    """Wilson's score interval (1927) of a share of independent examples, which may be an effective number of them."""
    if examples < 1:
        raise ValueError("an interval of no examples")
    spread = Z95 * math.sqrt(value * (1 - value) / examples + Z95**2 / (4 * examples**2))
    scale, centre = 1 + Z95**2 / examples, value + Z95**2 / (2 * examples)
    return Accuracy(value, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale), int(examples))


def accuracy(outcomes: pl.DataFrame) -> Accuracy:
    """The share of examples still right."""
    return wilson(_mean(outcomes["robust"]), len(outcomes))


def union_accuracy(outcomes: Sequence[pl.DataFrame]) -> Accuracy:
    """The share of examples still right under every attack."""
    return wilson(_mean(standing(outcomes)), len(outcomes[0]))


def standing(outcomes: Sequence[pl.DataFrame]) -> pl.Series:
    """Which examples are still right under every attack, `[N]` booleans.

    Raises:
        UserError: the attacks were measured on different examples.
    """
    return side_by_side(outcomes).select(pl.all_horizontal(pl.all())).to_series()


def mean_accuracy(outcomes: Sequence[pl.DataFrame]) -> Accuracy:
    """The unweighted mean over attacks of the share of examples still right.

    The interval is Wilson's for as many examples as would make a share vary as much as this mean does (Korn and
    Graubard, "Confidence intervals for proportions with small expected number of positive counts", Survey Methodology
    1998): a mean over attacks varies less from example to example than right or wrong does. Where every example has
    the same mean nothing is known of that, and the number of examples stands. A bootstrap is no substitute near 0 and
    1, where it is far too narrow.
    """
    means = side_by_side(outcomes).select(pl.mean_horizontal(pl.all())).to_series()
    value, examples = _mean(means), len(means)
    variance = float(means.var(ddof=0) or 0.0)  # type: ignore[arg-type]
    effective = examples * max(1.0, value * (1 - value) / variance) if variance else examples
    return wilson(value, effective)._replace(examples=examples)


def unseen(threat_models: Mapping[str, str], trained_on: Sequence[str]) -> list[str]:
    """The attacks whose mean is the unseen mean: threat models not trained on, each once (Laidlaw et al. 2021).

    The perceptual threat model counts once, as the attack named `lpa` where there is one. Where every narrow threat
    model was trained on there is no unseen mean: the paper gives none for models trained on all of them.

    Args:
        threat_models: of every attack of the suite, by attack.
        trained_on: names of threat models; `linf|l2` (any of them) is both.

    Where several attacks search another threat model the last of them stands for it; clean images are no threat.
    """
    seen = {"clean", *(part for name in trained_on for part in (name, *name.split("|")))}
    representatives = {threat: attack for attack, threat in threat_models.items()}
    if threat_models.get("lpa") == _PERCEPTUAL:
        representatives[_PERCEPTUAL] = "lpa"
    narrow = representatives.keys() - {"clean", _PERCEPTUAL}
    if narrow and narrow <= seen:
        return []
    return [attack for threat, attack in representatives.items() if threat not in seen]


_PERCEPTUAL = "perceptual"  # the name of the threat model that every narrow one is thought to lie in


def side_by_side(outcomes: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row per example, one column per attack (`0`, `1`, …): whether it is still right.

    Raises:
        UserError: the attacks were measured on different examples.
    """
    check_same_examples(outcomes)
    return pl.DataFrame({str(i): frame["robust"] for i, frame in enumerate(outcomes)})


def check_same_examples(outcomes: Sequence[pl.DataFrame]) -> None:
    """Raise UserError unless all records are of the same examples, in the same order."""
    first = outcomes[0]["example_id"]
    for frame in outcomes[1:]:
        if not frame["example_id"].equals(first):
            raise UserError(
                f"attacks were measured on different examples ({len(first)} and {len(frame)} of them):"
                " finish the evaluation before they are put side by side"
            )


def _mean(column: pl.Series) -> float:
    return float(column.mean() or 0.0)  # type: ignore[arg-type]

"""Accuracies, their union and their mean, each with an interval. All are pure functions of records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import polars as pl

from gauntlet.errors import UserError
from gauntlet.evaluation.evidence import decides
from gauntlet.evaluation.statistics.bootstrap import bootstrap_means
from gauntlet.evaluation.statistics.estimates import PERCENT, Estimate

Z95 = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


def wilson(value: float, examples: float) -> Estimate:
    """Return Wilson's score interval (1927) for a share of independent examples, or of an effective number of them.

    `scipy.stats.binomtest(…).proportion_ci(method="wilson")` takes whole numbers of examples only.
    """
    if examples < 1:
        raise ValueError("an interval of no examples")
    spread = Z95 * math.sqrt(value * (1 - value) / examples + Z95**2 / (4 * examples**2))
    scale, centre = 1 + Z95**2 / examples, value + Z95**2 / (2 * examples)
    return Estimate(value, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale), int(examples))


def share_of(holds: pl.Series) -> Estimate:
    """Return the share of true values among `[N]` booleans, with its Wilson interval."""
    return wilson(_mean(holds), len(holds))


def accuracy(records: pl.DataFrame) -> Estimate:
    """Return the share of examples that are correct; of records with scores alone the mean, as `mean_score`."""
    return share_of(records["correct"]) if decides(records) else mean_score(records)


def mean_score(records: pl.DataFrame) -> Estimate:
    """Return the mean score of examples, in [0, 1], with the bootstrap's interval."""
    (mean,) = bootstrap_means([records["score"].cast(pl.Float64).to_list()])
    return mean._replace(unit=PERCENT)


def union_accuracy(records: Sequence[pl.DataFrame]) -> Estimate:
    """Return the share of examples that are correct under every attack."""
    return share_of(all_correct(records))


def all_correct(records: Sequence[pl.DataFrame]) -> pl.Series:
    """Return which examples are correct under every attack, `[N]` booleans.

    Raises:
        UserError: the attacks were measured on different examples.
    """
    check_same_examples(records)
    return every([frame["correct"] for frame in records])


def every(columns: Sequence[pl.Series]) -> pl.Series:
    """Return the conjunction of several columns of `[N]` booleans."""
    frame = pl.DataFrame([column.alias(str(i)) for i, column in enumerate(columns)])
    return frame.select(pl.all_horizontal(pl.all())).to_series()


def mean_accuracy(records: Sequence[pl.DataFrame]) -> Estimate:
    """Return the unweighted mean over attacks of the accuracy, as `mean_share`.

    Raises:
        UserError: the attacks were measured on different examples.
    """
    check_same_examples(records)
    return mean_share([frame["correct"] for frame in records])


def mean_share(columns: Sequence[pl.Series]) -> Estimate:
    """Return the unweighted mean of the shares of several columns of `[N]` booleans of the same examples.

    The interval is Wilson's for an effective number of examples, at which a share has the variance of this mean (Korn
    and Graubard, "Confidence intervals for proportions with small expected number of positive counts", Survey
    Methodology 1998): a mean over attacks varies less between examples than a single answer does. If the variance is
    zero, the number of examples is used. A bootstrap is far too narrow near 0 and 1.
    """
    frame = pl.DataFrame([column.alias(str(i)) for i, column in enumerate(columns)])
    means = frame.select(pl.mean_horizontal(pl.all())).to_series()
    value, examples = _mean(means), len(means)
    variance = float(means.var(ddof=0) or 0.0)  # type: ignore[arg-type]
    effective = examples * max(1.0, value * (1 - value) / variance) if variance else examples
    return wilson(value, effective)._replace(examples=examples)


def unseen(threat_models: Mapping[str, str], trained_on: Sequence[str]) -> list[str]:
    """Return the attacks whose mean is the unseen mean: one for each threat model not trained on (Laidlaw et al. 2021).

    The perceptual threat model is represented by the attack named `lpa` if there is one. If every narrow threat model
    was trained on, there is no unseen mean: the paper gives none for models trained on all of them. If several attacks
    search another threat model, the last of them represents it. Clean images are left out.

    Args:
        threat_models: threat model of every attack of the suite, by attack.
        trained_on: names of threat models; `linf|l2` (any of them) is both.
    """
    trained = {"clean"}
    for name in trained_on:
        trained |= {name, *name.split("|")}
    representatives = {threat: attack for attack, threat in threat_models.items()}
    if threat_models.get("lpa") == _PERCEPTUAL:
        representatives[_PERCEPTUAL] = "lpa"
    narrow = representatives.keys() - {"clean", _PERCEPTUAL}
    if narrow and narrow <= trained:
        return []
    return [attack for threat, attack in representatives.items() if threat not in trained]


_PERCEPTUAL = "perceptual"  # the name of the perceptual threat model


def check_same_examples(records: Sequence[pl.DataFrame]) -> None:
    """Raise UserError unless all records have the same examples in the same order."""
    first = records[0]["example_id"]
    for frame in records[1:]:
        if not frame["example_id"].equals(first):
            raise UserError(
                f"attacks were measured on different examples ({len(first)} and {len(frame)} of them):"
                " finish the evaluation first"
            )


def _mean(column: pl.Series) -> float:
    return float(column.mean() or 0.0)  # type: ignore[arg-type]

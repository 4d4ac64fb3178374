"""Paired comparison of two classifiers on the same examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from gauntlet.errors import UserError
from gauntlet.evaluation.statistics.accuracy import Z95, all_correct, check_same_examples


class Paired(NamedTuple):
    """The result of a paired comparison of two accuracies."""

    difference: float
    """Accuracy of the first minus that of the second, in [-1, 1]."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    only_first: int
    """Number of examples that the first alone gets right."""
    only_second: int
    """Number of examples that the second alone gets right."""
    p_value: float
    """p-value of McNemar's exact test that both counts are equally likely."""
    examples: int


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided exact p-value: the chance that n fair coins deviate from n/2 at least as much.

    McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 1947, with
    the binomial distribution in place of its limit.
    """
    from scipy.stats import binomtest  # slow to import, and not needed for a table of one run

    coins = only_first + only_second
    return float(binomtest(min(only_first, only_second), coins).pvalue) if coins else 1.0


def paired(first: pl.Series, second: pl.Series) -> Paired:
    """Compare two columns of booleans, row by row.

    The interval is the Wald interval with one example added to each discordant count (Bonett and Price, "Adjusted Wald
    confidence interval for a difference of binomial proportions based on paired data", J. Educ. Behav. Stat. 2012),
    extended to the difference itself in the extreme case that it would not contain it.
    """
    examples = len(first)
    if not examples or len(second) != examples:
        raise ValueError(f"a paired comparison of {examples} and {len(second)} examples: expected the same, at least 1")
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    difference = (only_first - only_second) / examples
    more = (only_first + 1) / (examples + 2)
    less = (only_second + 1) / (examples + 2)
    spread = Z95 * math.sqrt((more + less - (more - less) ** 2) / (examples + 2))
    low = max(-1.0, more - less - spread)
    high = min(1.0, more - less + spread)
    p_value = mcnemar(only_first, only_second)
    return Paired(difference, min(low, difference), max(high, difference), only_first, only_second, p_value, examples)


def compare(
    first: Mapping[str, pl.DataFrame], second: Mapping[str, pl.DataFrame], union: Sequence[str]
) -> dict[str, Paired]:
    """Compare two checkpoints under every attack that both have, and under `union`.

    Args:
        first: records of one checkpoint, by attack.
        second: records of the other.
        union: names of the attacks in the union; the union is left out if one of them is missing.

    Raises:
        UserError: they have no attack in common, or other examples.
    """
    common = [name for name in first if name in second]
    if not common:
        raise UserError(f"no attack in common: {sorted(first)} and {sorted(second)}")
    for name in common:
        check_same_examples([first[name], second[name]])
        if not first[name]["label"].equals(second[name]["label"]):
            raise UserError(f"{name}: the two checkpoints were measured on examples with different labels")
    pairs = {name: paired(first[name]["correct"], second[name]["correct"]) for name in common}
    if union and set(union) <= set(common):
        pairs["union"] = paired(
            all_correct([first[name] for name in union]), all_correct([second[name] for name in union])
        )
    return pairs

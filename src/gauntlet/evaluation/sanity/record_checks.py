"""Sanity checks on records: images outside the threat model, accuracy rising with the bound, misleading gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from gauntlet.evaluation.evidence import decides
from gauntlet.evaluation.flags import Flag, rising, share
from gauntlet.evaluation.grouping import group_by_threat_model, next_smaller
from gauntlet.evaluation.statistics.accuracy import all_correct
from gauntlet.evaluation.suite import AttackSuite


def flags_of_records(suite: AttackSuite, records: Mapping[str, pl.DataFrame]) -> list[Flag]:
    """Return the flags that the records of a finished evaluation determine.

    Args:
        suite: the suite that was run.
        records: by entry, all of the same examples.
    """
    flags = _outside(records)
    if all(decides(frame) for frame in records.values()):
        flags += [*_rising_with_the_bound(suite, records), *_gradient_free_is_better(suite, records)]
    return flags


def _outside(records: Mapping[str, pl.DataFrame]) -> list[Flag]:
    why = "share of records whose image was not inside the threat model: a bug in the attack; they count as not broken"
    return [
        Flag("outside", name, share(~frame["inside"]), 0.0, why)
        for name, frame in records.items()
        if "inside" in frame.columns
    ]


def _rising_with_the_bound(suite: AttackSuite, records: Mapping[str, pl.DataFrame]) -> list[Flag]:
    """Compare attacks at each bound with those at the next smaller bounds of the same threat model."""
    flags = []
    for by_bounds in group_by_threat_model(suite, suite.bounded).values():
        for bounds, names in sorted(by_bounds.items()):
            if smaller := next_smaller(bounds, by_bounds):
                lowest = min(share(_correct_under(records, by_bounds[other])) for other in smaller)
                rise = share(_correct_under(records, names)) - lowest
                flags += [rising(name, rise) for name in names]
    return flags


def _gradient_free_is_better(suite: AttackSuite, records: Mapping[str, pl.DataFrame]) -> list[Flag]:
    """Compare gradient-free attacks with gradient-based attacks in the same threat model."""
    why = "share of examples that an attack without gradients breaks and this one's kind does not: gradients mislead"
    flags = []
    for by_bounds in group_by_threat_model(suite, suite.bounded).values():
        for names in by_bounds.values():
            gradient_free = [name for name in names if suite.bounded[name].gradient_free]
            gradient_based = [name for name in names if name not in gradient_free]
            if gradient_free and gradient_based:
                missed = _correct_under(records, gradient_based) & ~_correct_under(records, gradient_free)
                flags += [Flag("black box", name, share(missed), 0.002, why) for name in gradient_based]
    return flags


def _correct_under(records: Mapping[str, pl.DataFrame], names: Sequence[str]) -> pl.Series:
    return all_correct([records[name] for name in names])

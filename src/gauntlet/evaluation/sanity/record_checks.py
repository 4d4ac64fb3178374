"""Sanity checks that records alone can answer: images outside, accuracy rising with the bound, misleading gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from gauntlet.evaluation.grouping import group_by_threat_model, next_smaller
from gauntlet.evaluation.sanity.flags import Flag, rising, share
from gauntlet.evaluation.statistics.accuracy import all_correct
from gauntlet.evaluation.suite import AttackSuite


def recorded(suite: AttackSuite, records: Mapping[str, pl.DataFrame]) -> list[Flag]:
    """What the records of a finished evaluation tell.

    Args:
        suite: its entries.
        records: by entry, of the same examples.
    """
    return [*_outside(records), *_rising_with_the_bound(suite, records), *_blind_beats_sighted(suite, records)]


def _outside(records: Mapping[str, pl.DataFrame]) -> list[Flag]:
    why = "share of records whose image was not inside the threat model: a bug in the attack; they count as not broken"
    return [
        Flag("outside", name, share(~frame["inside"]), 0.0, why)
        for name, frame in records.items()
        if "inside" in frame.columns
    ]


def _rising_with_the_bound(suite: AttackSuite, records: Mapping[str, pl.DataFrame]) -> list[Flag]:
    """Attacks of one threat model at several bounds: every larger one against the next smaller ones inside it."""
    found = []
    for family in group_by_threat_model(suite, suite.bounded).values():
        for bounds, names in sorted(family.items()):
            if smaller := next_smaller(bounds, family):
                lowest = min(share(_under(records, family[other])) for other in smaller)
                rise = share(_under(records, names)) - lowest
                found += [rising(name, rise) for name in names]
    return found


def _blind_beats_sighted(suite: AttackSuite, records: Mapping[str, pl.DataFrame]) -> list[Flag]:
    """Attacks without gradients against those with them, in the same threat model."""
    why = "share of examples that an attack without gradients breaks and this one's kind does not: gradients mislead"
    found = []
    for family in group_by_threat_model(suite, suite.bounded).values():
        for names in family.values():
            attacks = suite.bounded
            blind = [name for name in names if attacks[name].gradient_free]
            sighted = [name for name in names if name not in blind]
            if blind and sighted:
                missed = share(_under(records, sighted) & ~_under(records, blind))
                found += [Flag("black box", name, missed, 0.002, why) for name in sighted]
    return found


def _under(records: Mapping[str, pl.DataFrame], names: Sequence[str]) -> pl.Series:
    return all_correct([records[name] for name in names])

"""The evaluation grid, the store of records, statistics over records, and sanity checks.

What measures is imported when it is first asked for: it needs torch, which reports do without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gauntlet.evaluation.columns import Aggregated, Column, ResultTable
from gauntlet.evaluation.evidence import SCHEMAS, holds_at
from gauntlet.evaluation.flags import Flag, read_flags, write_flags
from gauntlet.evaluation.plan import Card, Plan, PlannedEntry, read_card, read_plan
from gauntlet.evaluation.run import Measured, Run, read_run
from gauntlet.evaluation.statistics.accuracy import accuracy, all_correct, mean_accuracy, union_accuracy, unseen, wilson
from gauntlet.evaluation.statistics.bootstrap import bootstrap_means
from gauntlet.evaluation.statistics.distances import distance_statistics
from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.evaluation.statistics.overlap import Overlap, coverage, overlaps
from gauntlet.evaluation.statistics.paired_tests import Paired, compare, mcnemar, paired
from gauntlet.evaluation.store import RecordFolder, read_records
from gauntlet.kinds import Kind

if TYPE_CHECKING:
    from gauntlet.evaluation.aggregate import Aggregate
    from gauntlet.evaluation.aggregates import (
        Abstentions,
        AverageCertifiedRadius,
        MeanAccuracy,
        MedianRadius,
        Union,
        UnseenMean,
    )
    from gauntlet.evaluation.competitiveness import Competitiveness
    from gauntlet.evaluation.distance_aggregates import AreaUnderCurve, MedianDistance, Optimality
    from gauntlet.evaluation.entries import Entry
    from gauntlet.evaluation.grid import Grid
    from gauntlet.evaluation.library import evaluate
    from gauntlet.evaluation.modes import Full, Survivors
    from gauntlet.evaluation.runner import Progress
    from gauntlet.evaluation.sanity.clean_check import CleanCheck, clean_check
    from gauntlet.evaluation.sanity.probe import probe
    from gauntlet.evaluation.sanity.record_checks import flags_of_records
    from gauntlet.evaluation.suite import AttackSuite
    from gauntlet.evaluation.verification import ModelUnderTest, measure_chunk

__all__ = [
    "SCHEMAS",
    "Abstentions",
    "Aggregate",
    "Aggregated",
    "AreaUnderCurve",
    "AttackSuite",
    "AverageCertifiedRadius",
    "Card",
    "CleanCheck",
    "Column",
    "Competitiveness",
    "Entry",
    "Estimate",
    "Flag",
    "Full",
    "Grid",
    "Kind",
    "MeanAccuracy",
    "Measured",
    "MedianDistance",
    "MedianRadius",
    "ModelUnderTest",
    "Optimality",
    "Overlap",
    "Paired",
    "Plan",
    "PlannedEntry",
    "Progress",
    "RecordFolder",
    "ResultTable",
    "Run",
    "Survivors",
    "Union",
    "UnseenMean",
    "accuracy",
    "all_correct",
    "bootstrap_means",
    "clean_check",
    "compare",
    "coverage",
    "distance_statistics",
    "evaluate",
    "flags_of_records",
    "holds_at",
    "mcnemar",
    "mean_accuracy",
    "measure_chunk",
    "overlaps",
    "paired",
    "probe",
    "read_card",
    "read_flags",
    "read_plan",
    "read_records",
    "read_run",
    "union_accuracy",
    "unseen",
    "wilson",
    "write_flags",
]

_MEASURING = {
    "aggregate": ("Aggregate",),
    "aggregates": ("Abstentions", "AverageCertifiedRadius", "MeanAccuracy", "MedianRadius", "Union", "UnseenMean"),
    "competitiveness": ("Competitiveness",),
    "distance_aggregates": ("AreaUnderCurve", "MedianDistance", "Optimality"),
    "entries": ("Entry",),
    "grid": ("Grid",),
    "library": ("evaluate",),
    "modes": ("Full", "Survivors"),
    "runner": ("Progress",),
    "sanity.clean_check": ("CleanCheck", "clean_check"),
    "sanity.probe": ("probe",),
    "sanity.record_checks": ("flags_of_records",),
    "suite": ("AttackSuite",),
    "verification": ("ModelUnderTest", "measure_chunk"),
}
"""Names by the module they are imported from at first use."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        for module, names in _MEASURING.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

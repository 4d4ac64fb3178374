"""The evaluation grid, the store of records, statistics over records, and sanity checks."""

from gauntlet.evaluation.aggregate import Aggregate
from gauntlet.evaluation.aggregates import (
    Abstentions,
    AverageCertifiedRadius,
    MeanAccuracy,
    MedianRadius,
    Union,
    UnseenMean,
)
from gauntlet.evaluation.columns import Aggregated, Column, ResultTable
from gauntlet.evaluation.distance_aggregates import AreaUnderCurve, MedianDistance, Optimality
from gauntlet.evaluation.entries import Entry
from gauntlet.evaluation.evidence import SCHEMAS, holds_at
from gauntlet.evaluation.flags import Flag, read_flags, write_flags
from gauntlet.evaluation.grid import Grid
from gauntlet.evaluation.library import evaluate
from gauntlet.evaluation.modes import Full, Survivors
from gauntlet.evaluation.plan import Card, Plan, PlannedEntry, read_card, read_plan
from gauntlet.evaluation.run import Measured, Run, read_run
from gauntlet.evaluation.runner import Progress
from gauntlet.evaluation.sanity.clean_check import CleanCheck, clean_check
from gauntlet.evaluation.sanity.probe import probe
from gauntlet.evaluation.sanity.record_checks import flags_of_records
from gauntlet.evaluation.statistics.accuracy import accuracy, all_correct, mean_accuracy, union_accuracy, unseen, wilson
from gauntlet.evaluation.statistics.bootstrap import bootstrap_means
from gauntlet.evaluation.statistics.distances import distance_statistics
from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.evaluation.statistics.overlap import Overlap, coverage, overlaps
from gauntlet.evaluation.statistics.paired_tests import Paired, compare, mcnemar, paired
from gauntlet.evaluation.store import RecordFolder, read_records
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.evaluation.verification import ModelUnderTest, measure_chunk
from gauntlet.kinds import Kind

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

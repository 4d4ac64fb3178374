"""The grid, the store of records, the statistics over them, and the checks of what they say."""

from gauntlet.evaluation.aggregate import Aggregate, Aggregated, Column, ResultTable
from gauntlet.evaluation.aggregates import (
    Abstentions,
    AreaUnderCurve,
    AverageCertifiedRadius,
    MedianDistance,
    MedianRadius,
    Union,
    UnseenMean,
)
from gauntlet.evaluation.bootstrap import bootstrap_means
from gauntlet.evaluation.changes import distance_statistics
from gauntlet.evaluation.estimates import Estimate
from gauntlet.evaluation.evidence import SCHEMAS, holds_at
from gauntlet.evaluation.first_look import FirstLook, first_look
from gauntlet.evaluation.flags import Flag, read_flags, write_flags
from gauntlet.evaluation.grid import Grid
from gauntlet.evaluation.library import evaluate
from gauntlet.evaluation.measures import accuracy, all_correct, mean_accuracy, union_accuracy, unseen, wilson
from gauntlet.evaluation.modes import Full, Survivors
from gauntlet.evaluation.overlap import Overlap, coverage, overlaps
from gauntlet.evaluation.pairs import Paired, compare, mcnemar, paired
from gauntlet.evaluation.plan import Card, Plan, PlannedEntry, read_card, read_plan
from gauntlet.evaluation.probe import probe
from gauntlet.evaluation.record_checks import recorded
from gauntlet.evaluation.run import Measured, Run, read_run
from gauntlet.evaluation.runner import Progress
from gauntlet.evaluation.store import RecordFolder, read_records
from gauntlet.evaluation.suite import AttackSuite, Entry
from gauntlet.evaluation.verification import Subject, measure_chunk
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
    "Column",
    "Entry",
    "Estimate",
    "FirstLook",
    "Flag",
    "Full",
    "Grid",
    "Kind",
    "Measured",
    "MedianDistance",
    "MedianRadius",
    "Overlap",
    "Paired",
    "Plan",
    "PlannedEntry",
    "Progress",
    "RecordFolder",
    "ResultTable",
    "Run",
    "Subject",
    "Survivors",
    "Union",
    "UnseenMean",
    "accuracy",
    "all_correct",
    "bootstrap_means",
    "compare",
    "coverage",
    "distance_statistics",
    "evaluate",
    "first_look",
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
    "recorded",
    "union_accuracy",
    "unseen",
    "wilson",
    "write_flags",
]

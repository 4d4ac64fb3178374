"""The grid, the outcome store, what outcomes say, and what should make a reader doubt them."""

from gauntlet.evaluation.bootstrap import Mean, bootstrap_means
from gauntlet.evaluation.changes import distance_statistics
from gauntlet.evaluation.flags import Flag, read_flags, recorded, write_flags
from gauntlet.evaluation.grid import Grid, Subject, examine
from gauntlet.evaluation.measures import Accuracy, accuracy, mean_accuracy, union_accuracy, unseen, wilson
from gauntlet.evaluation.outcomes import OutcomeFolder, read_outcomes
from gauntlet.evaluation.overlap import Overlap, coverage, overlaps
from gauntlet.evaluation.pairs import Paired, compare, mcnemar, paired
from gauntlet.evaluation.probe import probe
from gauntlet.evaluation.suite import AttackSuite

__all__ = [
    "Accuracy",
    "AttackSuite",
    "Flag",
    "Grid",
    "Mean",
    "OutcomeFolder",
    "Overlap",
    "Paired",
    "Subject",
    "accuracy",
    "bootstrap_means",
    "compare",
    "coverage",
    "distance_statistics",
    "examine",
    "mcnemar",
    "mean_accuracy",
    "overlaps",
    "paired",
    "probe",
    "read_flags",
    "read_outcomes",
    "recorded",
    "union_accuracy",
    "unseen",
    "wilson",
    "write_flags",
]

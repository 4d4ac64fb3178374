"""The grid, the outcome store, what outcomes say, and what should make a reader doubt them."""

from gauntlet.evaluation.bootstrap import Mean, bootstrap_means
from gauntlet.evaluation.changes import distance_statistics
from gauntlet.evaluation.corruption_errors import Errors, Relative, errors_of, read_errors, relative_to
from gauntlet.evaluation.corruption_suite import cifar10_c, corruption_suite, imagenet_c
from gauntlet.evaluation.examination import Subject, examine
from gauntlet.evaluation.first_look import FirstLook, first_look
from gauntlet.evaluation.flags import Flag, read_flags, recorded, write_flags
from gauntlet.evaluation.grid import Grid
from gauntlet.evaluation.library import evaluate
from gauntlet.evaluation.measures import Accuracy, accuracy, mean_accuracy, union_accuracy, unseen, wilson
from gauntlet.evaluation.modes import Full, Survivors
from gauntlet.evaluation.outcomes import OutcomeFolder, read_outcomes, with_fallen
from gauntlet.evaluation.overlap import Overlap, coverage, overlaps
from gauntlet.evaluation.pairs import Paired, compare, mcnemar, paired
from gauntlet.evaluation.probe import probe
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.evaluation.work import Progress

__all__ = [
    "Accuracy",
    "AttackSuite",
    "Errors",
    "FirstLook",
    "Flag",
    "Full",
    "Grid",
    "Mean",
    "OutcomeFolder",
    "Overlap",
    "Paired",
    "Progress",
    "Relative",
    "Subject",
    "Survivors",
    "accuracy",
    "bootstrap_means",
    "cifar10_c",
    "compare",
    "corruption_suite",
    "coverage",
    "distance_statistics",
    "errors_of",
    "evaluate",
    "examine",
    "first_look",
    "imagenet_c",
    "mcnemar",
    "mean_accuracy",
    "overlaps",
    "paired",
    "probe",
    "read_errors",
    "read_flags",
    "read_outcomes",
    "recorded",
    "relative_to",
    "union_accuracy",
    "unseen",
    "wilson",
    "with_fallen",
    "write_flags",
]

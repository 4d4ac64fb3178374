"""The grid, the outcome store and what outcomes say."""

from gauntlet.evaluation.examination import Subject, examine
from gauntlet.evaluation.first_look import FirstLook, first_look
from gauntlet.evaluation.grid import Grid
from gauntlet.evaluation.library import evaluate
from gauntlet.evaluation.measures import Accuracy, accuracy, mean_accuracy, union_accuracy, unseen, wilson
from gauntlet.evaluation.modes import Full, Survivors
from gauntlet.evaluation.outcomes import OutcomeFolder, read_outcomes, with_fallen
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.evaluation.work import Progress

__all__ = [
    "Accuracy",
    "AttackSuite",
    "FirstLook",
    "Full",
    "Grid",
    "OutcomeFolder",
    "Progress",
    "Subject",
    "Survivors",
    "accuracy",
    "evaluate",
    "examine",
    "first_look",
    "mean_accuracy",
    "read_outcomes",
    "union_accuracy",
    "unseen",
    "wilson",
    "with_fallen",
]

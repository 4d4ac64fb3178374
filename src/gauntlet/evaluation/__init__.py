"""The grid, the outcome store and what outcomes say."""

from gauntlet.evaluation.grid import Grid, Subject, examine
from gauntlet.evaluation.measures import Accuracy, accuracy, mean_accuracy, union_accuracy, unseen, wilson
from gauntlet.evaluation.outcomes import OutcomeFolder, read_outcomes
from gauntlet.evaluation.suite import AttackSuite

__all__ = [
    "Accuracy",
    "AttackSuite",
    "Grid",
    "OutcomeFolder",
    "Subject",
    "accuracy",
    "examine",
    "mean_accuracy",
    "read_outcomes",
    "union_accuracy",
    "unseen",
    "wilson",
]

"""Check that a suite suits a task, and add the task's dataset metrics to its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from gauntlet.errors import UserError
from gauntlet.evaluation.columns import Aggregated, Column
from gauntlet.evaluation.entries import Entry, check_named
from gauntlet.evaluation.run import Measured
from gauntlet.evaluation.statistics.bootstrap import bootstrap_metric
from gauntlet.evaluation.statistics.estimates import PERCENT
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.kinds import IMAGE_KINDS, Kind
from gauntlet.task import DecidingTask, Task

_OF_SCORES = (Kind.ATTACK, Kind.TRANSFORM)
"""Kinds of entries that need only a score per example, not whether it is correct."""


@dataclass(frozen=True)
class DatasetMetric:
    """A metric of a task over all records of one entry, such as mean IoU or average precision.

    Args:
        of: the entry's name.
        metric: its name among the task's `metrics`.
        task: of the dataset.
    """

    identity: ClassVar[str] = "dataset_metric/1"
    takes_scores: ClassVar[bool] = True
    of: str
    metric: str
    task: Task

    def check(self, name: str, entries: Mapping[str, Entry]) -> None:
        """Raise ValueError unless the entry is there and makes images, and the task has the metric."""
        check_named(name, [self.of], entries, IMAGE_KINDS)
        if self.metric not in self.task.metrics:
            raise ValueError(f"{name}: {self.task.name} has no {self.metric}, but {sorted(self.task.metrics)}")

    def conjunction(self, entries: Mapping[str, Entry]) -> Mapping[str, float]:
        """Return nothing: this is no union."""
        return {}

    def __call__(self, name: str, measured: Measured) -> Aggregated:
        """Return the metric with a bootstrap interval over examples."""
        estimate = bootstrap_metric(measured.records[self.of], self.task.metrics[self.metric])
        note = f"{self.metric}: of all examples together, 95 % bootstrap intervals."
        return Aggregated({name: Column(estimate._replace(unit=PERCENT), [self.of])}, note=note)


def suite_of_task(suite: AttackSuite, task: Task) -> AttackSuite:
    """Return the suite with the task's metrics of every entry that makes images as aggregates, such as `mIoU linf`.

    Raises:
        UserError: as in `check_task`.
    """
    check_task(suite, task)
    own = {
        f"{metric} {name}": DatasetMetric(name, metric, task)
        for metric in task.metrics
        for name, entry in suite.entries.items()
        if entry.kind in IMAGE_KINDS
    }
    return replace(suite, aggregates={**suite.aggregates, **own}) if own else suite


def check_task(suite: AttackSuite, task: Task) -> None:
    """Refuse entries and aggregates that need to know which examples are correct, if the task only has scores.

    Raises:
        UserError: names them, and the overrides that remove them.
    """
    if isinstance(task, DecidingTask):
        return
    attacks = [name for name, entry in suite.attacks.items() if entry.kind not in _OF_SCORES]
    aggregates = [name for name, one in suite.aggregates.items() if not getattr(one, "takes_scores", False)]
    refused = [*attacks, *suite.certificates, *aggregates]
    if not refused:
        return
    overrides = [f"~attack_suite.attacks.{name}" for name in attacks]
    overrides += ["~attack_suite.certificates"] if suite.certificates else []
    overrides += ["~attack_suite.aggregates"] if aggregates else []
    raise UserError(
        f"{', '.join(refused)} of the attack suite ask which examples are correct, and {task.name} has a score per"
        f" example but no yes or no: leave them out, in a config with {' '.join(map(repr, overrides))}"
    )

"""Which run is the best of a column, and which are worse by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.paired_tests import paired

LEVEL = 0.05


class Verdict(NamedTuple):
    """One run in one column, against the best of the runs that were measured alike there."""

    best: bool
    p_value: float
    """Of McNemar's exact test against the best, after Holm; 1 for the best."""

    @property
    def worse(self) -> bool:
        """Whether the best is better by more than chance."""
        return not self.best and self.p_value < LEVEL


def verdicts(runs: Sequence[Run], column: str) -> list[Verdict | None]:
    """By run; None where no other run was measured alike, or where the column is no share of examples."""
    found: list[Verdict | None] = [None] * len(runs)
    alike: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        if run.correct(column) is not None:
            alike.setdefault(run.measured(column), []).append(i)
    for members in alike.values():
        if len(members) > 1:
            for i, verdict in zip(members, _against_the_best([runs[i] for i in members], column), strict=True):
                found[i] = verdict
    return found


def _against_the_best(runs: Sequence[Run], column: str) -> list[Verdict]:
    """The best is the first of the highest accuracy; those as high as it are as good."""
    correct = [run.correct(column) for run in runs]
    right = [int(column.sum()) for column in correct if column is not None]
    best = right.index(max(right))
    others = [i for i in range(len(runs)) if right[i] < right[best]]
    tests = [paired(correct[best], correct[i]).p_value for i in others]  # type: ignore[arg-type]
    adjusted = dict(zip(others, holm(tests), strict=True))
    return [Verdict(i not in adjusted, adjusted.get(i, 1.0)) for i in range(len(runs))]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests, adjusted so that the chance of any false alarm is the level.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted

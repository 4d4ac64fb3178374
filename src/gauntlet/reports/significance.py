"""Find the best run of a column, and the runs that are significantly worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.paired_tests import paired

LEVEL = 0.05


class Verdict(NamedTuple):
    """One run in one column, compared with the best of the runs that were measured alike there."""

    best: bool
    p_value: float
    """p-value of McNemar's exact test against the best, after Holm; 1 for the best."""

    @property
    def worse(self) -> bool:
        """Whether it is significantly worse than the best."""
        return not self.best and self.p_value < LEVEL


def verdicts(runs: Sequence[Run], column: str) -> list[Verdict | None]:
    """Return a verdict for each run; None if no other run was measured alike, or the column is no share of examples."""
    result: list[Verdict | None] = [None] * len(runs)
    groups: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        if run.correct(column) is not None:
            groups.setdefault(run.measured(column), []).append(i)
    for members in groups.values():
        if len(members) > 1:
            for i, verdict in zip(members, _against_the_best([runs[i] for i in members], column), strict=True):
                result[i] = verdict
    return result


def _against_the_best(runs: Sequence[Run], column: str) -> list[Verdict]:
    """Compare with the first run of the highest accuracy; runs of equal accuracy count as best too."""
    correct = [run.correct(column) for run in runs]
    right = [int(column.sum()) for column in correct if column is not None]
    best = right.index(max(right))
    others = [i for i in range(len(runs)) if right[i] < right[best]]
    tests = [paired(correct[best], correct[i]).p_value for i in others]  # type: ignore[arg-type]
    adjusted = dict(zip(others, holm(tests), strict=True))
    return [Verdict(i not in adjusted, adjusted.get(i, 1.0)) for i in range(len(runs))]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return adjusted p-values of several tests, which control the family-wise error rate.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted

"""Many threat models at many bounds each: the mean accuracy over them, and what a report compares runs by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gauntlet.evaluation.columns import Aggregated, Column
from gauntlet.evaluation.entries import Entry, check_named
from gauntlet.evaluation.run import Measured
from gauntlet.evaluation.statistics.accuracy import mean_share
from gauntlet.kinds import Kind


@dataclass(frozen=True)
class Competitiveness:
    """The mean robust accuracy over a grid of attacks and bounds (Dai et al., "MultiRobustBench", ICML 2023).

    A report of several runs adds their competitiveness ratios: see `gauntlet.reports.competitiveness`.

    Args:
        bounds: by name of an attack or minimum-distance attack, the bounds at which it counts, in the unit of its
            threat model. An attack counts at its own bound alone.
    """

    identity: ClassVar[str] = "competitiveness/1"
    bounds: Mapping[str, Sequence[float]]

    def check(self, name: str, entries: Mapping[str, Entry]) -> None:
        """Raise ValueError unless the suite has the entries and they can be asked at these bounds."""
        check_named(name, list(self.bounds), entries, [Kind.ATTACK, Kind.MINIMUM_DISTANCE])
        if not any(self.bounds.values()):
            raise ValueError(f"{name} has no bounds: give some by attack, or leave {name} out")
        for member, bounds in self.bounds.items():
            for bound in bounds:
                if not isinstance(bound, int | float) or not 0 <= bound < float("inf"):
                    raise ValueError(f"{name}: bound {bound!r} of {member}: expected a finite number, at least 0")
            own = entries[member].threat_model.bound
            if entries[member].kind is Kind.ATTACK and list(bounds) != [own]:
                raise ValueError(
                    f"{name} asks {member} at {list(bounds)}, which is an attack at {own:g}: name one entry for each"
                    f" bound, or a minimum-distance attack"
                )

    def conjunction(self, entries: Mapping[str, Entry]) -> Mapping[str, float]:
        """Return nothing: this is no union."""
        return {}

    def __call__(self, name: str, measured: Measured) -> Aggregated:
        """One column: the mean of the accuracies of all cells, each weighted equally."""
        cells = [measured.holds(member, bound) for member, bounds in self.bounds.items() for bound in bounds]
        note = f"{name}: mean accuracy over {len(cells)} cells of {len(self.bounds)} attacks at their bounds."
        column = Column(mean_share(cells), list(self.bounds))
        return Aggregated({name: column}, note=note, compared_at={key: list(one) for key, one in self.bounds.items()})

"""A number with its interval: what every cell of a table is."""

from __future__ import annotations

from typing import NamedTuple

PERCENT = "%"


class Estimate(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    """In [0, 1] where the unit is `%`, which only display multiplies by 100."""
    low: float
    high: float
    examples: int
    unit: str = PERCENT
    """`%`, or the unit of a distance or radius."""

    @property
    def text(self) -> str:
        """`61.5` of a share; three digits of anything else, which may be `∞`."""
        return self._number(self.value)

    @property
    def interval(self) -> str:
        """`56.6–66.1`."""
        return f"{self._number(self.low)}–{self._number(self.high)}"

    def _number(self, number: float) -> str:
        if number == float("inf"):
            return "∞"
        return f"{100 * number:.1f}" if self.unit == PERCENT else f"{number:.3g}"

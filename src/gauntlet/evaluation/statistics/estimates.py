"""A number with its interval: the content of a cell of a table."""

from __future__ import annotations

from typing import NamedTuple

PERCENT = "%"


class Estimate(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    """In [0, 1] if the unit is `%`; only display multiplies by 100."""
    low: float
    high: float
    examples: int
    unit: str = PERCENT
    """`%`, or the unit of a distance or radius."""

    @property
    def text(self) -> str:
        """`61.5` for a share; three significant digits for anything else, or `∞`."""
        return self._number(self.value)

    @property
    def interval(self) -> str:
        """`56.6–66.1`."""
        return f"{self._number(self.low)}–{self._number(self.high)}"

    def _number(self, number: float) -> str:
        if number == float("inf"):
            return "∞"
        return f"{100 * number:.1f}" if self.unit == PERCENT else f"{number:.3g}"

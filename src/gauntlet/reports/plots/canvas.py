"""How all plots look, and how a drawing becomes text for a page: the same bytes for the same numbers."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, FILL = "#1f2733", "#5f6b7a", "#e3e7ec", "#2f6f9f"
COLOURS = ("#0072b2", "#d55e00", "#008a64", "#b0548e", "#b88200", "#3f8fc4", "#5c4f9c", "#4d4d4d")
"""After Okabe and Ito, "Color universal design", 2008, darkened until each stands out on white."""
DASHES = ("-", "--", ":")
MARKS = ("o", "s", "^")
WIDTH = 4.6
"""Inches of a plot: what a narrow window shows without making the letters too small."""

_STYLE = {
    "svg.fonttype": "none",  # letters stay letters, in the page's own type
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
}


_NEEDLESS = (
    (r"<metadata>.*?</metadata>", ""),
    (r' version="1.1"', ""),
    (r'<g id="[^"]*"(/?)>', r"<g\1>"),
    (r"<g/>", ""),
    (r" font-family: [^;\"]*;", ""),  # the page's own
    (r' transform="rotate\(-?0 [^"]*"', ""),
    (r"\s+", " "),
)
"""Of what matplotlib writes: a third remains."""


class Plot(NamedTuple):
    """A drawing on a page."""

    title: str
    svg: str
    """With its description inside."""
    caption: str
    """How to read it."""


@contextmanager
def drawing(height: float, rows: int = 1, columns: int = 1, **layout: Any) -> Iterator[tuple[Figure, Any]]:
    """A figure as wide as all of them, and its `[rows, columns]` axes.

    Args:
        height: in inches.
        rows: of axes.
        columns: of axes.
        layout: of `Figure.subplots`.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", _STYLE]):  # whatever a user's matplotlibrc says
        figure = Figure(figsize=(WIDTH, height))
        yield figure, figure.subplots(rows, columns, squeeze=False, **layout)


def as_svg(figure: Figure, name: str, description: str) -> str:
    """A drawing as an element of a page.

    Args:
        figure: to be drawn while its style is still in force.
        name: of the drawing, unlike every other name on the page.
        description: for those who do not see it.
    """
    import matplotlib as mpl

    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    body = text[text.index("<svg") :]
    for pattern, short in _NEEDLESS:
        body = re.sub(pattern, short, body, flags=re.DOTALL)
    body = re.sub(r"<[^>]*>", _to_hundredths, body)
    body = re.sub(r' id="([^"]+)"', rf' id="{name}-\1"', body)  # two drawings have the same names for their parts
    body = re.sub(r'(url\(|href=")#', rf"\1#{name}-", body)
    return body.replace("<svg ", f'<svg role="img" aria-label="{html.escape(description)}" ', 1).strip()


def _to_hundredths(tag: re.Match[str]) -> str:
    """A tag with coordinates to a hundredth of a point; numbers between tags are for readers and stay whole."""
    return re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0])


def percent_axis(axes: Axes, axis: str) -> None:
    """0 to 100 along an axis, with room for what lies on the ends."""
    axes.set(**{f"{axis}ticks": [0, 25, 50, 75, 100], f"{axis}lim": (-3, 103)})


def only_lines_along(axes: Axes, axis: str) -> None:
    """A grid for one axis only."""
    axes.grid(False)
    axes.grid(True, axis=axis)  # type: ignore[arg-type]

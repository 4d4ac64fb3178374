"""The style of all plots, and their conversion to SVG for a page: equal numbers give equal bytes."""

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
"""After Okabe and Ito, "Color universal design", 2008, darkened to contrast with white."""
DASHES = ("-", "--", ":")
MARKS = ("o", "s", "^")
WIDTH = 4.6
"""Width of a plot in inches, readable in a narrow window."""

_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the page's font
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


_REDUCTIONS = (
    (r"<metadata>.*?</metadata>", ""),
    (r' version="1.1"', ""),
    (r'<g id="[^"]*"(/?)>', r"<g\1>"),
    (r"<g/>", ""),
    (r" font-family: [^;\"]*;", ""),  # the page's own font is used
    (r' transform="rotate\(-?0 [^"]*"', ""),
    (r"\s+", " "),
)
"""Patterns in matplotlib's SVG and their replacements; a third of the text remains."""


class Plot(NamedTuple):
    """A plot on a page."""

    title: str
    svg: str
    """The image, with its description."""
    caption: str
    """How to read it."""


@contextmanager
def drawing(height: float, rows: int = 1, columns: int = 1, **layout: Any) -> Iterator[tuple[Figure, Any]]:
    """Open a figure of the common width, with `[rows, columns]` axes.

    Args:
        height: height in inches.
        rows: rows of axes.
        columns: columns of axes.
        layout: further arguments of `Figure.subplots`.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", _STYLE]):  # independent of the user's matplotlibrc
        figure = Figure(figsize=(WIDTH, height))
        yield figure, figure.subplots(rows, columns, squeeze=False, **layout)


def as_svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as an element of a page.

    Args:
        figure: the figure, while its style context is open.
        name: of the plot, unique on the page.
        description: alternative text for screen readers.
    """
    import matplotlib as mpl

    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=no_metadata, transparent=True)
    text = buffer.getvalue()
    body = text[text.index("<svg") :]
    for pattern, replacement in _REDUCTIONS:
        body = re.sub(pattern, replacement, body, flags=re.DOTALL)
    body = re.sub(r"<[^>]*>", _to_hundredths, body)
    body = re.sub(r' id="([^"]+)"', rf' id="{name}-\1"', body)  # ids must be unique on a page
    body = re.sub(r'(url\(|href=")#', rf"\1#{name}-", body)
    return body.replace("<svg ", f'<svg role="img" aria-label="{html.escape(description)}" ', 1).strip()


def _to_hundredths(tag: re.Match[str]) -> str:
    """Round the coordinates in a tag to a hundredth of a point. Text between tags is not changed."""
    return re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0])


def percent_axis(axes: Axes, axis: str) -> None:
    """Set an axis to 0 to 100, with a margin for marks at the ends."""
    axes.set(**{f"{axis}ticks": [0, 25, 50, 75, 100], f"{axis}lim": (-3, 103)})


def only_lines_along(axes: Axes, axis: str) -> None:
    """Draw a grid for one axis only."""
    axes.grid(False)
    axes.grid(True, axis=axis)  # type: ignore[arg-type]

"""Progress of the grid: a bar per attack on a terminal, a line per chunk anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.table import Column

from gauntlet.kinds import Kind

if TYPE_CHECKING:
    from gauntlet.evaluation import Progress as ChunkProgress


_WIDE = 112  # columns: enough for all words beside a bar
_BESIDE_THE_BAR = 70  # columns
_SHORTEST_BAR = 8  # columns


class Display:
    """Shows progress after every chunk; a context manager.

    Args:
        attacks: their names, in order.
    """

    def __init__(self, attacks: Iterable[str]) -> None:
        self._live = sys.stdout.isatty()
        # a console of its own: other live displays of this process may have left the shared one in use
        console = Console()
        self._progress = Progress(*_columns(console.width), console=console, disable=not self._live)
        self._tasks = {name: self._progress.add_task(name, total=None, text="") for name in attacks}

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def chunk_done(self, progress: ChunkProgress) -> None:
        """Show a chunk; outside a terminal, chunks that were there from the start get no line."""
        text = format_progress(progress)
        self._progress.update(self._tasks[progress.entry], completed=progress.chunks, total=progress.of, text=text)
        if not self._live and (progress.speed is not None or progress.chunks == progress.of):
            print(f"{progress.entry}: chunk {progress.chunks} of {progress.of}, {text}", flush=True)


_WORDS = {
    Kind.ATTACK: "still correct",
    Kind.MINIMUM_DISTANCE: "correct within the bound",
    Kind.CERTIFICATE: "stated correct within the bound",  # certified, or conditional
    Kind.TRANSFORM: "correct",
}


def _columns(width: int) -> list[ProgressColumn]:
    """Return columns for name, bar, chunks and text. A narrow terminal has a short bar or none, and the text folds."""
    narrow = width < _WIDE
    name = TextColumn("{task.description:>12}")
    bar = BarColumn(width - _BESIDE_THE_BAR if narrow else 40)
    text = TextColumn("{task.fields[text]}", table_column=Column(no_wrap=not narrow, overflow="fold"))
    bars = [bar] if width >= _BESIDE_THE_BAR + _SHORTEST_BAR else []
    return [name, *bars, MofNCompleteColumn(), text]


def format_progress(progress: ChunkProgress) -> str:
    """Format progress as `45.3 % still correct, 812 images/s, 40 s left`."""
    if progress.score is None:
        total, word = float(progress.correct), _WORDS[progress.kind]
    else:
        total, word = progress.score, "mean score"
    parts = [f"{100 * total / max(1, progress.examples):.1f} % {word}"]
    if progress.speed is not None:
        parts.append(f"{progress.speed:.3g} images/s")
    if progress.seconds_left:
        parts.append(f"{duration(progress.seconds_left)} left")
    if progress.outside:
        parts.append(f"{progress.outside} outside their threat model")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Format seconds as `40 s`, `12 min` or `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

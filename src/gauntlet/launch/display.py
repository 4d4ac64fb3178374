"""How far the grid is: a bar per attack on a terminal, a line per chunk anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.table import Column

from gauntlet.kinds import Kind

if TYPE_CHECKING:
    from gauntlet.evaluation import Progress as Told


_WIDE = 112  # columns: enough for all words beside a bar
_BESIDE_THE_BAR = 70  # columns
_SHORTEST_BAR = 8  # columns


class Display:
    """Told after every chunk; a context manager.

    Args:
        attacks: their names, in order.
    """

    def __init__(self, attacks: Iterable[str]) -> None:
        self._live = sys.stdout.isatty()
        # a console of its own: in the shared one other live displays of this process may have left something behind
        console = Console()
        self._progress = Progress(*_columns(console.width), console=console, disable=not self._live)
        self._tasks = {name: self._progress.add_task(name, total=None, said="") for name in attacks}

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def chunk_done(self, told: Told) -> None:
        """Show it. Chunks that were there from the start are not worth a line each."""
        said = words(told)
        self._progress.update(self._tasks[told.entry], completed=told.chunks, total=told.of, said=said)
        if not self._live and (told.speed is not None or told.chunks == told.of):
            print(f"{told.entry}: chunk {told.chunks} of {told.of}, {said}", flush=True)


_WORDS = {
    Kind.ATTACK: "still correct",
    Kind.MINIMUM_DISTANCE: "correct within the bound",
    Kind.CERTIFICATE: "stated correct within the bound",  # certified, or conditional
    Kind.TRANSFORM: "correct",
}


def _columns(width: int) -> list[ProgressColumn]:
    """Name, bar, chunks and words. A narrow terminal has a short bar or none, and the words fold."""
    narrow = width < _WIDE
    name = TextColumn("{task.description:>12}")
    bar = BarColumn(width - _BESIDE_THE_BAR if narrow else 40)
    said = TextColumn("{task.fields[said]}", table_column=Column(no_wrap=not narrow, overflow="fold"))
    return [name, *([bar] if width >= _BESIDE_THE_BAR + _SHORTEST_BAR else []), MofNCompleteColumn(), said]


def words(told: Told) -> str:
    """`45.3 % still correct, 812 images/s, 40 s left`."""
    parts = [f"{100 * told.correct / max(1, told.examples):.1f} % {_WORDS[told.kind]}"]
    if told.speed is not None:
        parts.append(f"{told.speed:.3g} images/s")
    if told.seconds_left:
        parts.append(f"{duration(told.seconds_left)} left")
    if told.outside:
        parts.append(f"{told.outside} outside their threat model")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

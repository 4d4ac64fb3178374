"""One run of the grid: which chunks are left, whose they are, and what to do about an attack that fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from gauntlet.errors import AttackFailed, UserError
from gauntlet.evaluation.examination import Subject, examine
from gauntlet.evaluation.outcomes import SCHEMA
from gauntlet.evaluation.suite import AttackSuite

if TYPE_CHECKING:
    from gauntlet.evaluation.grid import Grid

_PATIENCE = 0.2  # seconds between two looks at what other processes have left


class Progress(NamedTuple):
    """How far one attack is."""

    attack: str
    chunks: int
    """Done, by whichever process."""
    of: int
    """All of them."""
    examples: int
    """In the chunks done."""
    right: int
    """Of these examples, still right."""
    outside: int
    """Records whose image was not inside its threat model."""
    speed: float | None
    """Images per second of this process; None if it has done nothing of this attack yet."""
    seconds_left: float | None
    """At this speed, shared by all processes."""


@dataclass
class _Tally:
    chunks: int = 0
    examples: int = 0
    right: int = 0
    outside: int = 0
    own: int = 0
    seconds: float = 0.0


class Work:
    """One process's part of a run.

    Args:
        grid: how.
        subject: who.
        suite: under which attacks.
        root: `outcomes/`.
        done: told after every chunk.
    """

    def __init__(
        self, grid: Grid, subject: Subject, suite: AttackSuite, root: Path, done: Callable[[Progress], None]
    ) -> None:
        self.grid, self.subject, self.suite, self.done = grid, subject, suite, done
        self.folders = grid.folders(subject, suite, root)
        self._full = grid.full_folders(subject, suite, root)
        self._chunks = grid.chunks(subject)
        self._tallies = {name: _Tally() for name in suite.attacks}
        self._failed: dict[str, str] = {}

    def finish(self) -> None:
        """Until every chunk of every attack is there, by whichever process, but for attacks that fail."""
        indices = range(len(self._chunks))
        mine = [(name, i) for name in self.suite.attacks for i in indices if i % self.grid.world == self.grid.rank]
        theirs = [(name, i) for name in self.suite.attacks for i in indices if i % self.grid.world != self.grid.rank]
        waiting = mine + theirs
        while waiting:
            left = [(name, i) for name, i in waiting if not self._settled(name, i)]
            if len(left) == len(waiting):  # others are at all of them
                time.sleep(_PATIENCE)
            waiting = left
        if self._failed:
            failed = "; ".join(f"{name} ({why})" for name, why in self._failed.items())
            raise UserError(f"these attacks failed: {failed}. Without them the evaluation is not finished")

    def _settled(self, name: str, index: int) -> bool:
        """Do a chunk, unless it is there, somebody else is at it, or the attack fails. Whether it is off our mind."""
        earlier = self.grid.mode.earlier(self.suite, name)
        if not self._failed.keys().isdisjoint([name, *earlier]):
            return True
        folder, start = self.folders[name], None
        if not folder.has(index):
            if not all(self.folders[other].has(index) for other in earlier):
                return False
            with folder.taking(index) as ours:
                if not ours:
                    return False
                if not folder.has(index):
                    start = time.perf_counter()
                    try:
                        frame = self._records(name, index, earlier)
                    except AttackFailed as failure:
                        self._give_up(name, index, failure)
                        return True
                    folder.write(index, frame)
        self._count(name, index, folder.read(index), start)
        return True

    def _records(self, name: str, index: int, earlier: list[str]) -> pl.DataFrame:
        """Of a chunk under an attack: from the full records where there are some, else measured."""
        batch = self.subject.examples[self._chunks[index]]
        if earlier:
            frames = [self.folders[other].read(index) for other in earlier]
            standing = set.intersection(*(set(frame.filter("robust")["example_id"]) for frame in frames))
            if self._full[name].has(index):
                return self._full[name].read(index).filter(pl.col("example_id").is_in(list(standing)))
            keep = [row for row, example in enumerate(batch.ids.tolist()) if example in standing]
            if not keep:
                return pl.DataFrame(schema=SCHEMA)
            batch = batch.rows(keep)
        attack = self.suite.attacks[name]
        return pl.DataFrame(examine(self.subject, attack, batch, self.grid.seeds(attack, batch)), schema=SCHEMA)

    def _give_up(self, name: str, index: int, failure: AttackFailed) -> None:
        chunk = self._chunks[index]
        self._failed[name] = f"{failure}, in chunk {index}"
        print(
            f"{name} failed in chunk {index} (examples {chunk.start} to {chunk.stop - 1}): {failure};"
            f" nothing of this chunk is kept, the other attacks go on",
            flush=True,
        )

    def _count(self, name: str, index: int, frame: pl.DataFrame, start: float | None) -> None:
        tally, chunk = self._tallies[name], self._chunks[index]
        tally.chunks += 1
        tally.examples += chunk.stop - chunk.start
        tally.right += int(frame["robust"].sum())
        tally.outside += int((~frame["inside"]).sum())
        if start is not None:
            tally.own += chunk.stop - chunk.start
            tally.seconds += time.perf_counter() - start
        speed = tally.own / tally.seconds if tally.own else None
        missing = self._chunks[-1].stop - tally.examples
        left = None if speed is None else missing / speed / self.grid.world
        self.done(
            Progress(name, tally.chunks, len(self._chunks), tally.examples, tally.right, tally.outside, speed, left)
        )

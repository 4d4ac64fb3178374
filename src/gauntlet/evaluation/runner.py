"""Run the grid: choose the next chunk, share chunks between processes, and continue when an entry fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl
import torch

from gauntlet.data import Batch
from gauntlet.errors import AttackFailed, UserError
from gauntlet.evaluation.entries import Entry
from gauntlet.evaluation.evidence import decides, holds_at, schema
from gauntlet.evaluation.store import RecordFolder
from gauntlet.evaluation.verification import Chunk, ModelUnderTest, measure_chunk
from gauntlet.kinds import Kind
from gauntlet.noise import Noise

_POLL_INTERVAL = 0.2  # seconds between two checks whether other processes have finished their chunks


class Progress(NamedTuple):
    """Progress of one entry."""

    entry: str
    kind: Kind
    chunks: int
    """Finished chunks, by all processes."""
    of: int
    """Number of chunks."""
    examples: int
    """Number of examples in the finished chunks."""
    correct: int
    """Number of these examples that are correct at the entry's bound."""
    outside: int
    """Number of records whose image lies outside the threat model."""
    speed: float | None
    """Images per second of this process; None before its first chunk of this entry."""
    seconds_left: float | None
    """Remaining time at this speed, if all processes are as fast."""
    score: float | None = None
    """Sum of the scores of these examples, for a task with scores alone, where `correct` is undefined."""


@dataclass
class _Tally:
    chunks: int = 0
    examples: int = 0
    correct: int = 0
    score: float | None = None
    outside: int = 0
    own: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Job:
    """One entry of a suite in a run of the grid."""

    entry: Entry
    folder: RecordFolder
    """Where its records belong."""
    full: RecordFolder
    """Where they belong if it is run on every example."""
    earlier: Sequence[str]
    """Entries whose records say on which examples it is run; none: on all of them."""
    noise: Callable[[Batch], Noise]


class GridRunner:
    """Runs the grid in one process.

    Args:
        model: the classifier and the examples.
        jobs: one per entry of the suite, in the order in which they are run.
        chunks: the chunks of examples.
        rank: this process.
        world: number of processes that share the chunks.
        keep_images: whether images are kept beside the records.
        done: called after every chunk.
    """

    def __init__(
        self,
        model: ModelUnderTest,
        jobs: Mapping[str, Job],
        chunks: Sequence[slice],
        rank: int,
        world: int,
        keep_images: bool,
        done: Callable[[Progress], None],
    ) -> None:
        self.model, self.jobs, self.done = model, jobs, done
        self.rank, self.world, self.keep_images = rank, world, keep_images
        self._chunks = chunks
        self._tallies = {name: _Tally() for name in jobs}
        self._failed: dict[str, str] = {}

    def finish(self) -> None:
        """Return when every chunk is finished, by any process, except those of entries that fail."""
        mine: list[tuple[str, int]] = []
        theirs: list[tuple[str, int]] = []
        for name in self.jobs:
            for index in range(len(self._chunks)):
                own = index % self.world == self.rank
                (mine if own else theirs).append((name, index))
        waiting = mine + theirs
        while waiting:
            remaining = [(name, index) for name, index in waiting if not self._try_chunk(name, index)]
            if len(remaining) == len(waiting):  # other processes are working on all of them
                time.sleep(_POLL_INTERVAL)
            waiting = remaining
        if self._failed:
            failed = "; ".join(f"{name} ({why})" for name, why in self._failed.items())
            raise UserError(f"failed: {failed}. Without these entries the evaluation is not finished")

    def _try_chunk(self, name: str, index: int) -> bool:
        """Measure a chunk unless it is finished, another process works on it, or the entry failed.

        Returns:
            Whether nothing is left to do for it.
        """
        if not self._failed.keys().isdisjoint([name, *self.jobs[name].earlier]):
            return True
        folder = self.jobs[name].folder
        start = None
        if not self._is_finished(name, index):
            if not all(self.jobs[other].folder.has(index) for other in self.jobs[name].earlier):
                return False
            with folder.taking(index) as acquired:
                if not acquired:
                    return False
                if not self._is_finished(name, index):  # another process may have finished it before the lock was ours
                    start = time.perf_counter()
                    try:
                        chunk = self._measure(name, index)
                    except AttackFailed as failure:
                        self._give_up(name, index, failure)
                        return True
                    if self.keep_images and chunk.images is not None:
                        # Images come first, because a file of records marks the chunk as finished.
                        folder.write_images(index, chunk.records["example_id"].to_list(), chunk.images)
                    folder.write(index, chunk.records)
        self._count(name, index, folder.read(index), start)
        return True

    def _is_finished(self, name: str, index: int) -> bool:
        folder = self.jobs[name].folder
        needs_images = self.keep_images and self.jobs[name].entry.kind is not Kind.CERTIFICATE
        return folder.has(index) and (not needs_images or folder.has_images(index))

    def _measure(self, name: str, index: int) -> Chunk:
        """Return a chunk of an entry, taken from the full records if there are any, else measured."""
        entry = self.jobs[name].entry
        batch = self.model.examples[self._chunks[index]]
        if self.jobs[name].earlier:
            keep = self._still_correct(name, index, batch.ids.tolist())
            if self.jobs[name].full.has(index):
                return self._part_of_full(name, index, keep)
            if not keep:
                return Chunk(pl.DataFrame(schema=schema(entry.kind, self.model.task)), batch.images[:0])
            batch = batch.rows(keep)
        return measure_chunk(self.model, entry, batch, self.jobs[name].noise(batch))

    def _still_correct(self, name: str, index: int, ids: list[int]) -> list[int]:
        """Rows of the examples in a chunk that all earlier entries left correct."""
        correct = set(ids)
        for other in self.jobs[name].earlier:
            correct &= set(self.jobs[other].folder.read(index).filter("correct")["example_id"])
        return [row for row, example in enumerate(ids) if example in correct]

    def _part_of_full(self, name: str, index: int, keep: list[int]) -> Chunk:
        """Return some rows of a chunk from its full records. Images that were not kept with them are computed again."""
        entry = self.jobs[name].entry
        full = self.jobs[name].full
        batch = self.model.examples[self._chunks[index]]
        ids = batch.ids[keep].tolist()
        records = full.read(index)
        images = None
        if self.keep_images and full.has_images(index):
            kept = full.read_images(index)
            images = torch.stack([kept[one] for one in ids]) if ids else batch.images[:0]
        elif self.keep_images:
            records, all_images = measure_chunk(self.model, entry, batch, self.jobs[name].noise(batch))
            images = None if all_images is None else all_images[keep]
        return Chunk(records.filter(pl.col("example_id").is_in(ids)), images)

    def _give_up(self, name: str, index: int, failure: AttackFailed) -> None:
        chunk = self._chunks[index]
        self._failed[name] = f"{failure}, in chunk {index}"
        print(
            f"{name} failed in chunk {index} (examples {chunk.start} to {chunk.stop - 1}): {failure};"
            f" nothing of this chunk is kept, the other entries go on",
            flush=True,
        )

    def _count(self, name: str, index: int, frame: pl.DataFrame, start: float | None) -> None:
        tally = self._tallies[name]
        chunk = self._chunks[index]
        entry = self.jobs[name].entry
        holds = holds_at(frame, entry.kind, entry.threat_model.bound, entry.threat_model.bound)
        tally.chunks += 1
        tally.examples += chunk.stop - chunk.start
        tally.correct += 0 if holds is None else int(holds.sum())
        if not decides(frame):
            tally.score = (tally.score or 0.0) + float(frame["score"].sum())
        tally.outside += int((~frame["inside"]).sum()) if "inside" in frame.columns else 0
        if start is not None:
            tally.own += chunk.stop - chunk.start
            tally.seconds += time.perf_counter() - start
        speed = tally.own / tally.seconds if tally.own else None
        missing = self._chunks[-1].stop - tally.examples
        seconds_left = None if speed is None else missing / speed / self.world
        self.done(
            Progress(
                entry=name,
                kind=entry.kind,
                chunks=tally.chunks,
                of=len(self._chunks),
                examples=tally.examples,
                correct=tally.correct,
                outside=tally.outside,
                speed=speed,
                seconds_left=seconds_left,
                score=tally.score,
            )
        )

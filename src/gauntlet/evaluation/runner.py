"""One run of the grid: which chunks are left, which process does them, and what to do about an entry that fails."""

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

_PATIENCE = 0.2  # seconds between two looks at what other processes have left


class Progress(NamedTuple):
    """How far one entry is."""

    entry: str
    kind: Kind
    chunks: int
    """Done, by whichever process."""
    of: int
    """All of them."""
    examples: int
    """In the chunks done."""
    correct: int
    """Of these examples, correct at the entry's bound."""
    outside: int
    """Records whose image was not its threat model's."""
    speed: float | None
    """Images per second of this process; None if it has done nothing of this entry yet."""
    seconds_left: float | None
    """At this speed, shared by all processes."""
    score: float | None = None
    """Sum of the scores of these examples, in a task without a yes or no: `correct` means nothing there."""


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
    """One process's part of a run.

    Args:
        model: the classifier.
        jobs: one per entry of the suite, in the order in which they are run.
        chunks: of the examples.
        rank: this process.
        world: how many processes share the chunks.
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
        """Until every chunk of every entry is there, by whichever process, but for entries that fail."""
        mine: list[tuple[str, int]] = []
        theirs: list[tuple[str, int]] = []
        for name in self.jobs:
            for index in range(len(self._chunks)):
                own = index % self.world == self.rank
                (mine if own else theirs).append((name, index))
        waiting = mine + theirs
        while waiting:
            left = [(name, index) for name, index in waiting if not self._try_chunk(name, index)]
            if len(left) == len(waiting):  # other processes are at all of them
                time.sleep(_PATIENCE)
            waiting = left
        if self._failed:
            failed = "; ".join(f"{name} ({why})" for name, why in self._failed.items())
            raise UserError(f"failed: {failed}. Without these entries the evaluation is not finished")

    def _try_chunk(self, name: str, index: int) -> bool:
        """Do a chunk, unless it is there, another process is at it, or the entry fails. Whether nothing is left."""
        if not self._failed.keys().isdisjoint([name, *self.jobs[name].earlier]):
            return True
        folder, start = self.jobs[name].folder, None
        if not self._there(name, index):
            if not all(self.jobs[other].folder.has(index) for other in self.jobs[name].earlier):
                return False
            with folder.taking(index) as ours:
                if not ours:
                    return False
                if not self._there(name, index):
                    start = time.perf_counter()
                    try:
                        chunk = self._measured(name, index)
                    except AttackFailed as failure:
                        self._give_up(name, index, failure)
                        return True
                    if self.keep_images and chunk.images is not None:  # before the records, which say: done
                        folder.write_images(index, chunk.records["example_id"].to_list(), chunk.images)
                    folder.write(index, chunk.records)
        self._count(name, index, folder.read(index), start)
        return True

    def _there(self, name: str, index: int) -> bool:
        folder = self.jobs[name].folder
        images = not self.keep_images or self.jobs[name].entry.kind is Kind.CERTIFICATE or folder.has_images(index)
        return folder.has(index) and images

    def _measured(self, name: str, index: int) -> Chunk:
        """A chunk of an entry: from the full records where there are some, else measured."""
        entry = self.jobs[name].entry
        batch = self.model.examples[self._chunks[index]]
        if self.jobs[name].earlier:
            frames = [self.jobs[other].folder.read(index) for other in self.jobs[name].earlier]
            correct = set.intersection(*(set(frame.filter("correct")["example_id"]) for frame in frames))
            keep = [row for row, example in enumerate(batch.ids.tolist()) if example in correct]
            if self.jobs[name].full.has(index):
                return self._part_of_full(name, index, keep)
            if not keep:
                return Chunk(pl.DataFrame(schema=schema(entry.kind, self.model.task)), batch.images[:0])
            batch = batch.rows(keep)
        return measure_chunk(self.model, entry, batch, self.jobs[name].noise(batch))

    def _part_of_full(self, name: str, index: int, keep: list[int]) -> Chunk:
        """Some rows of a chunk whose full records are there; images that were not kept with these are made again."""
        entry, full, batch = self.jobs[name].entry, self.jobs[name].full, self.model.examples[self._chunks[index]]
        ids = batch.ids[keep].tolist()
        records, images = full.read(index), None
        if self.keep_images and full.has_images(index):
            kept = full.read_images(index)
            images = torch.stack([kept[one] for one in ids]) if ids else batch.images[:0]
        elif self.keep_images:
            records, every = measure_chunk(self.model, entry, batch, self.jobs[name].noise(batch))
            images = None if every is None else every[keep]
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
        tally, chunk, entry = self._tallies[name], self._chunks[index], self.jobs[name].entry
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
        left = None if speed is None else missing / speed / self.world
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
                seconds_left=left,
                score=tally.score,
            )
        )

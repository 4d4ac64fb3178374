"""The grid: run every entry of a suite on every example, in chunks, so that an interrupted run can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gauntlet.data import Batch
from gauntlet.descriptions import digest
from gauntlet.evaluation.entries import Entry
from gauntlet.evaluation.modes import Full, Mode
from gauntlet.evaluation.runner import GridRunner, Job, Progress
from gauntlet.evaluation.store import RecordFolder
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.evaluation.suite_of_task import check_task
from gauntlet.evaluation.verification import ModelUnderTest
from gauntlet.identity import describe, stream_of_identity, weights_of
from gauntlet.kinds import Kind
from gauntlet.noise import Noise, mix
from gauntlet.task import CLASSIFICATION


@dataclass(frozen=True)
class Grid:
    """The settings of an evaluation.

    Args:
        seed: seed of the attacks' random numbers; the same for all classifiers, so that comparisons are paired.
        chunk: examples per file. A record is bit-identical for the same chunk, device and software.
        examples: number of test examples to use, from the first; None for all.
        mode: which examples each attack is run on.
        probed: number of examples for the sanity checks, each about four times as expensive as under the suite.
        multiple: multiple of the certified radius at which attacks must break half of the probed examples; otherwise
            the soundness check is marked as without power.
        keep_images: keep the images of attacks and transforms beside the records.
        rank: index of this process.
        world: number of processes that share the chunks. They communicate through the folder of records alone.
    """

    seed: int = 0
    chunk: int = 200
    examples: int | None = None
    mode: Mode = field(default_factory=Full)
    probed: int = 32
    multiple: float = 4.0
    keep_images: bool = False
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if min(self.chunk, self.probed) < 1 or (self.examples is not None and self.examples < 1):
            given = f"chunk {self.chunk}, examples {self.examples}, probed {self.probed}"
            raise ValueError(f"{given}: expected at least 1 of each")
        if not 1 <= self.multiple < float("inf"):
            raise ValueError(f"multiple {self.multiple}: expected a multiple of the certified radius, at least 1")

    def folders(self, model: ModelUnderTest, suite: AttackSuite, root: Path) -> dict[str, RecordFolder]:
        """Return the folder of records of each entry of a suite."""
        return self._folders_of_mode(self.full_folders(model, suite, root), suite, root)

    def _folders_of_mode(
        self, full: Mapping[str, RecordFolder], suite: AttackSuite, root: Path
    ) -> dict[str, RecordFolder]:
        folders = dict(full)
        for name, entry in suite.entries.items():
            if earlier := self.mode.earlier(suite, name):
                survivors_of = [digest(folders[other].identity) for other in earlier]
                identity = {**folders[name].identity, "survivors_of": survivors_of}
                folders[name] = RecordFolder(root, f"{name}-survivors", entry.kind, identity)
        return folders

    def full_folders(self, model: ModelUnderTest, suite: AttackSuite, root: Path) -> dict[str, RecordFolder]:
        """Return the folders for a run of every entry on every example."""
        common: dict[str, Any] = {
            "classifier": model.description,
            "reference": None if model.reference is None else [describe(model.reference), weights_of(model.reference)],
            "checkpoint": model.checkpoint,
            "dataset": model.fingerprint,
            "examples": self.examples,
            "seed": self.seed,
            "chunk": self.chunk,
        }
        if model.task != CLASSIFICATION:
            common["task"] = describe(model.task)
        if model.measurement:
            common["measurement"] = model.measurement
        if model.calibrated.digest:
            common["calibrated"] = model.calibrated.digest
        return {
            name: RecordFolder(root, name, entry.kind, measured_by(entry) | common)
            for name, entry in suite.entries.items()
        }

    def chunks(self, model: ModelUnderTest) -> list[slice]:
        """Return the rows of the test examples in each chunk."""
        total = min(len(model.examples), self.examples or len(model.examples))
        return [slice(start, min(start + self.chunk, total)) for start in range(0, total, self.chunk)]

    def run(
        self, model: ModelUnderTest, suite: AttackSuite, root: Path, done: Callable[[Progress], None]
    ) -> dict[str, RecordFolder]:
        """Measure all missing chunks: this process's share first, then any that no other process is working on.

        Returns when all chunks are finished, by this or other processes.

        Args:
            model: the classifier and the examples.
            suite: the entries to run.
            root: `records/` of the run folder.
            done: called after every chunk, including those that were finished before.

        Raises:
            UserError: entries failed; everything that does not depend on them is finished.
        """
        check_task(suite, model.task)
        full = self.full_folders(model, suite, root)
        folders = self._folders_of_mode(full, suite, root)
        jobs = {
            name: Job(entry, folders[name], full[name], self.mode.earlier(suite, name), partial(self.noise, entry))
            for name, entry in suite.entries.items()
        }
        GridRunner(model, jobs, self.chunks(model), self.rank, self.world, self.keep_images, done).finish()
        return folders

    def noise(self, entry: Entry, batch: Batch) -> Noise:
        """Return the random numbers of an entry for each example, derived from (seed, entry, example id)."""
        return Noise(mix(self.seed, stream_of_identity(measured_by(entry)["entry"]), batch.ids))


def measured_by(entry: Entry) -> dict[str, Any]:
    """Return the part of a record's identity that comes from the entry: its description and its weights.

    The bound of a threat model is left out for minimum-distance attacks and certificates: their distances and radii
    do not depend on it.
    """
    description = describe(entry)
    if entry.kind in (Kind.MINIMUM_DISTANCE, Kind.CERTIFICATE) and isinstance(description.get("threat_model"), dict):
        unbounded = {key: value for key, value in description["threat_model"].items() if key != "bound"}
        description = {**description, "threat_model": unbounded}
    return {"kind": entry.kind.value, "entry": description, "weights": weights_of(entry)}

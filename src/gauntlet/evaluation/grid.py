"""The grid: every entry of a suite on every example, in chunks that survive whatever happens to the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gauntlet.data import Batch
from gauntlet.evaluation.entries import Entry
from gauntlet.evaluation.modes import Full, Mode
from gauntlet.evaluation.runner import GridRunner, Job, Progress
from gauntlet.evaluation.store import RecordFolder
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.evaluation.suite_of_task import check_task
from gauntlet.evaluation.verification import ModelUnderTest
from gauntlet.identity import describe, digest, stream_of_identity, weights_of
from gauntlet.kinds import Kind
from gauntlet.noise import Noise, mix
from gauntlet.task import CLASSIFICATION


@dataclass(frozen=True)
class Grid:
    """How a suite is run.

    Args:
        seed: of the attacks' random numbers; the same for all classifiers, so that they are compared in pairs.
        chunk: examples per file. A record is bit-identical for the same chunk, device and software.
        examples: how many of the test examples to use, from the first; None for all.
        mode: on whom each attack is run.
        probed: on how many of these examples the sanity checks are made afterwards, at about four times the suite's
            price for each.
        multiple: of the certified radius, at which attacks must break half of those examples, or the soundness check
            is marked as without power.
        keep_images: keep the images that records are about, beside them.
        rank: this process.
        world: how many processes share the chunks; they need not know of each other.
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
        """Where the records of each entry of a suite belong."""
        places = self.full_folders(model, suite, root)
        for name, entry in suite.entries.items():
            if earlier := self.mode.earlier(suite, name):
                among = [digest(places[other].identity) for other in earlier]
                identity = {**places[name].identity, "survivors_of": among}
                places[name] = RecordFolder(root, f"{name}-survivors", entry.kind, identity)
        return places

    def full_folders(self, model: ModelUnderTest, suite: AttackSuite, root: Path) -> dict[str, RecordFolder]:
        """Where they belong if every entry is run on every example."""
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
        """Which examples are in which chunk."""
        total = min(len(model.examples), self.examples or len(model.examples))
        return [slice(start, min(start + self.chunk, total)) for start in range(0, total, self.chunk)]

    def run(
        self, model: ModelUnderTest, suite: AttackSuite, root: Path, done: Callable[[Progress], None]
    ) -> dict[str, RecordFolder]:
        """Do what is missing: this process's share, then whatever no other process is at. Returns when all is done.

        Args:
            model: the classifier.
            suite: what it is measured by.
            root: `records/` of the run folder.
            done: called after every chunk, also of those that were there.

        Raises:
            UserError: entries failed; all that could be done without them is done.
        """
        check_task(suite, model.task)
        folders = self.folders(model, suite, root)
        full = self.full_folders(model, suite, root)
        jobs = {
            name: Job(entry, folders[name], full[name], self.mode.earlier(suite, name), partial(self.noise, entry))
            for name, entry in suite.entries.items()
        }
        GridRunner(model, jobs, self.chunks(model), self.rank, self.world, self.keep_images, done).finish()
        return folders

    def noise(self, entry: Entry, batch: Batch) -> Noise:
        """The random numbers of an entry for each example: from (seed, entry, example id)."""
        return Noise(mix(self.seed, stream_of_identity(measured_by(entry)["entry"]), batch.ids))


def measured_by(entry: Entry) -> dict[str, Any]:
    """What an entry's evidence depends on: what it is, and the weights it looks through.

    The bound of a threat model decides what an attack does. A minimum distance and a certified radius answer for every
    bound, and depend on none.
    """
    what = describe(entry)
    if entry.kind in (Kind.MINIMUM_DISTANCE, Kind.CERTIFICATE) and isinstance(what.get("threat_model"), dict):
        inner = {key: value for key, value in what["threat_model"].items() if key != "bound"}
        what = {**what, "threat_model": inner}
    return {"kind": entry.kind.value, "entry": what, "weights": weights_of(entry)}

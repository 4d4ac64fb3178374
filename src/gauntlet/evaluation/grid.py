"""The grid: every attack on every example, in chunks that survive whatever happens to the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gauntlet.attacks import Attack
from gauntlet.corruptions import LookedUp
from gauntlet.data import Batch
from gauntlet.evaluation.examination import Subject, attacked, device_of, examine
from gauntlet.evaluation.modes import Full, Mode
from gauntlet.evaluation.outcomes import OutcomeFolder
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.evaluation.work import Progress, Work
from gauntlet.identity import describe, digest, stream_of, weights_of
from gauntlet.noise import mix

__all__ = ["Grid", "Subject", "attacked", "device_of", "examine"]


@dataclass(frozen=True)
class Grid:
    """How it is done.

    Args:
        seed: of the attacks' random numbers; the same for all classifiers, so that they are compared in pairs.
        chunk: examples per file. A record is bit-identical for the same chunk, device and software.
        examples: how many of the test examples to use, from the first; None for all.
        mode: on whom each attack is run.
        probed: on how many of these examples the sanity checks are made afterwards, at about four times the suite's
            price for each.
        rank: this process.
        world: how many processes share the chunks; they need not know of each other.
    """

    seed: int = 0
    chunk: int = 200
    examples: int | None = None
    mode: Mode = field(default_factory=Full)
    probed: int = 32
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if min(self.chunk, self.probed) < 1 or (self.examples is not None and self.examples < 1):
            given = f"chunk {self.chunk}, examples {self.examples}, probed {self.probed}"
            raise ValueError(f"{given}: expected at least 1 of each")

    def folders(self, subject: Subject, suite: AttackSuite, root: Path) -> dict[str, OutcomeFolder]:
        """Where the outcomes of each attack of a suite belong."""
        places = self.full_folders(subject, suite, root)
        for name in suite.attacks:
            if earlier := self.mode.earlier(suite, name):
                among = [digest(places[other].identity) for other in earlier]
                identity = {**places[name].identity, "survivors_of": among}
                places[name] = OutcomeFolder(root, f"{name}-survivors", identity)
        return places

    def full_folders(self, subject: Subject, suite: AttackSuite, root: Path) -> dict[str, OutcomeFolder]:
        """Where they belong if every attack is run on every example."""
        common: dict[str, Any] = {
            "classifier": subject.description,
            "reference": None
            if subject.reference is None
            else [describe(subject.reference), weights_of(subject.reference)],
            "checkpoint": subject.checkpoint,
            "dataset": subject.fingerprint,
            "examples": self.examples,
            "seed": self.seed,
            "precision": "float32",
            "chunk": self.chunk,
        }
        if subject.calibrated.digest:
            common["calibrated"] = subject.calibrated.digest
        return {name: OutcomeFolder(root, name, _of(attack) | common) for name, attack in suite.attacks.items()}

    def chunks(self, subject: Subject) -> list[slice]:
        """Which examples are in which chunk."""
        total = min(len(subject.examples), self.examples or len(subject.examples))
        return [slice(start, min(start + self.chunk, total)) for start in range(0, total, self.chunk)]

    def run(
        self, subject: Subject, suite: AttackSuite, root: Path, done: Callable[[Progress], None]
    ) -> dict[str, OutcomeFolder]:
        """Do what is missing: this process's share, then whatever no other process is at. Returns when all is done.

        Args:
            subject: who.
            suite: under which attacks.
            root: `outcomes/` of the run folder.
            done: told after every chunk, and of those that were there.

        Raises:
            UserError: attacks failed; all that could be done without them is done.
        """
        work = Work(self, subject, suite, root, done)
        work.finish()
        return work.folders

    def seeds(self, attack: Attack, batch: Batch) -> Tensor:
        """`[N]`: from (seed, attack, example id); the ids themselves for what is looked up by example."""
        if isinstance(attack, LookedUp):
            return batch.ids
        return mix(self.seed, stream_of(attack), batch.ids)


def _of(attack: Attack) -> dict[str, Any]:
    return {"attack": describe(attack), "weights": weights_of(attack)}

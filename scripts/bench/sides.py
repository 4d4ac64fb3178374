"""Sides of a comparison that take turns, so that whatever else the machine does slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import torch


@dataclass(frozen=True)
class Side:
    """One way to do the job.

    Args:
        name: as in the table.
        run: does it once; what it returns goes to `strength`.
        strength: how good what came out is, in the row's measure; None where all sides do the same.
    """

    name: str
    run: Callable[[], Any]
    strength: Callable[[Any], float] | None = None


@dataclass(frozen=True)
class Timed:
    """What a side took."""

    name: str
    seconds: list[float]
    """Of every turn."""
    strength: float | None

    @property
    def median(self) -> float:
        """Seconds of the turn in the middle."""
        return median(self.seconds)


@dataclass(frozen=True)
class Row:
    """One comparison. The first side is Gauntlet's."""

    key: str
    """As on the command line."""
    job: str
    """What is done, on what."""
    measure: str
    """What the strengths are."""
    sides: list[Timed]
    target: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    """Whatever else was counted, by name."""

    def ratio(self, side: Timed) -> float:
        """How many times as long a side takes as Gauntlet: the median over turns, each compared with its own."""
        return median(theirs / ours for theirs, ours in zip(side.seconds, self.sides[0].seconds, strict=True))

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        ratios = {side.name: self.ratio(side) for side in self.sides[1:]}
        return asdict(self) | {"medians": {side.name: side.median for side in self.sides}, "ratios": ratios}


def take_turns(sides: Sequence[Side], turns: int, device: torch.device, warm: bool = True) -> list[Timed]:
    """Run every side once a turn, the order reversed every other turn.

    Args:
        sides: who.
        turns: how often.
        device: waited for before every look at the clock.
        warm: one turn more beforehand that does not count; what takes minutes need not.
    """
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    strengths: dict[str, float | None] = {}
    for turn in range(-1 if warm else 0, turns):
        for side in sides if turn % 2 == 0 else reversed(sides):
            start = clock(device)
            result = side.run()
            if turn >= 0:
                seconds[side.name].append(clock(device) - start)
            strengths[side.name] = None if side.strength is None else side.strength(result)
    return [Timed(side.name, seconds[side.name], strengths[side.name]) for side in sides]


def clock(device: torch.device) -> float:
    """Seconds: of the wall, once the GPU has done all it was asked; on one CPU thread, of that thread's own work.

    What other programs do to a shared machine then shows in its caches only.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time() if alone else time.perf_counter()

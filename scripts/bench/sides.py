"""Sides of a comparison that take turns, so that whatever else the machine does slows all of them alike."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from statistics import median
from typing import Any

import torch

_SLICE = 5.0  # seconds


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


def take_slices(sides: Sequence[Side], turns: int, device: torch.device) -> list[Timed]:
    """As `take_turns`, for jobs of minutes, in which a machine changes: on one CPU thread, a few seconds each in turn.

    Every side then runs in a process of its own, and all but one of them are halted.
    """
    if not _alone(device):
        return take_turns(sides, turns, device, warm=False)
    runs = [_sliced(sides) for _ in range(turns)]
    return [
        Timed(side.name, [seconds for seconds, _ in told], told[-1][1])
        for side, told in zip(sides, zip(*runs, strict=True), strict=True)
    ]


def _sliced(sides: Sequence[Side]) -> list[tuple[float, float | None]]:
    """What each side took in one run, and how strong it was. The first side that fails ends it for all."""
    fork = multiprocessing.get_context("fork")
    pipes = [fork.Pipe(duplex=False) for _ in sides]
    running: list[BaseProcess] = []
    try:
        for side, (_, told) in zip(sides, pipes, strict=True):
            running.append(fork.Process(target=_one, args=(side, told), name=side.name, daemon=True))
            running[-1].start()
            _signal(running[-1], signal.SIGSTOP)
            told.close()
        while not all(process.exitcode == 0 for process in running):
            for process in running:
                if process.is_alive():
                    _signal(process, signal.SIGCONT)
                    process.join(_SLICE)
                if process.is_alive():
                    _signal(process, signal.SIGSTOP)
                elif process.exitcode != 0:
                    raise ChildProcessError(f"{process.name} failed (exit code {process.exitcode})")
        return [heard.recv() for heard, _ in pipes]
    finally:
        for process in running:
            process.kill()


def _signal(process: BaseProcess, what: signal.Signals) -> None:
    assert process.pid is not None  # it was started; 0 would be the whole group, us included
    os.kill(process.pid, what)


def _one(side: Side, told: Connection) -> None:
    start = time.process_time()
    result = side.run()
    seconds = time.process_time() - start
    told.send((seconds, None if side.strength is None else side.strength(result)))


def clock(device: torch.device) -> float:
    """Seconds: of the wall, once the GPU has done all it was asked; on one CPU thread, of that thread's own work.

    What other programs do to a shared machine then shows in its caches only.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if _alone(device) else time.perf_counter()


def _alone(device: torch.device) -> bool:
    return device.type == "cpu" and torch.get_num_threads() == 1

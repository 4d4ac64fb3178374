"""Sides of a comparison that run in turn, so that other load on the machine slows all of them alike."""

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
    """One implementation of the job.

    Args:
        name: in the table.
        run: runs it once; the result goes to `strength`.
        strength: of a result, in the row's measure; None where all sides have the same result.
    """

    name: str
    run: Callable[[], Any]
    strength: Callable[[Any], float] | None = None


@dataclass(frozen=True)
class Timed:
    """The times of a side."""

    name: str
    seconds: list[float]
    """Of every turn."""
    strength: float | None

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return median(self.seconds)


@dataclass(frozen=True)
class Row:
    """One comparison. The first side is Gauntlet's."""

    key: str
    """Name on the command line."""
    job: str
    """Description of the job and its input."""
    measure: str
    """Meaning of the strengths."""
    sides: list[Timed]
    target: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    """Other measurements, by name."""

    def ratio(self, side: Timed) -> float:
        """Return the median over turns of a side's time divided by Gauntlet's in the same turn."""
        return median(theirs / ours for theirs, ours in zip(side.seconds, self.sides[0].seconds, strict=True))

    def plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        ratios = {side.name: self.ratio(side) for side in self.sides[1:]}
        return asdict(self) | {"medians": {side.name: side.median for side in self.sides}, "ratios": ratios}


def take_turns(sides: Sequence[Side], turns: int, device: torch.device, warm: bool = True) -> list[Timed]:
    """Run every side once per turn, in reversed order every other turn.

    Args:
        sides: to compare.
        turns: their number.
        device: synchronised before the clock is read.
        warm: run a turn before that does not count; not needed for jobs of minutes.
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
    """Run sides of minutes like `take_turns`, but on one CPU thread by slices of a few seconds in turn.

    So a change of the machine's load affects all sides. Each runs in its own process, and all but one are stopped.
    """
    if not _is_single_thread(device):
        return take_turns(sides, turns, device, warm=False)
    runs = [_sliced(sides) for _ in range(turns)]
    timed = []
    for side, results in zip(sides, zip(*runs, strict=True), strict=True):
        _, strength = results[-1]
        timed.append(Timed(side.name, [seconds for seconds, _ in results], strength))
    return timed


def _sliced(sides: Sequence[Side]) -> list[tuple[float, float | None]]:
    """Return seconds and strength of each side in one run. The first side that fails ends all.

    Raises:
        ChildProcessError: a side failed.
    """
    fork = multiprocessing.get_context("fork")
    pipes = [fork.Pipe(duplex=False) for _ in sides]
    running: list[BaseProcess] = []
    try:
        for side, (_, sender) in zip(sides, pipes, strict=True):
            process: BaseProcess = fork.Process(target=_run_side, args=(side, sender), name=side.name, daemon=True)
            running.append(process)
            process.start()
            _signal(process, signal.SIGSTOP)
            sender.close()
        while not all(process.exitcode == 0 for process in running):
            for process in running:
                if process.is_alive():
                    _signal(process, signal.SIGCONT)
                    process.join(_SLICE)
                if process.is_alive():
                    _signal(process, signal.SIGSTOP)
                elif process.exitcode != 0:
                    raise ChildProcessError(f"{process.name} failed (exit code {process.exitcode})")
        return [receiver.recv() for receiver, _ in pipes]
    finally:
        for process in running:
            process.kill()


def _signal(process: BaseProcess, what: signal.Signals) -> None:
    assert process.pid is not None  # started; os.kill(0) would signal the whole process group
    os.kill(process.pid, what)


def _run_side(side: Side, sender: Connection) -> None:
    start = time.process_time()
    result = side.run()
    seconds = time.process_time() - start
    sender.send((seconds, None if side.strength is None else side.strength(result)))


def clock(device: torch.device) -> float:
    """Return wall-clock seconds after synchronising the GPU; on one CPU thread, the seconds of its own work.

    Other programs on a shared machine then have an effect through its caches only.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if _is_single_thread(device) else time.perf_counter()


def _is_single_thread(device: torch.device) -> bool:
    return device.type == "cpu" and torch.get_num_threads() == 1

"""A sweep at a glance: `python -m gauntlet.status outputs/…`.

Everything is read from the run folders and from what sweeps noted of themselves; nothing is asked of a scheduler.
"""

from __future__ import annotations

import argparse
import csv
import glob
import os
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gauntlet.cluster.sweeps import shell_command, sweeps_of
from gauntlet.errors import UserError
from gauntlet.files import read_json
from gauntlet.runs.failures import begun, failure_of
from gauntlet.runs.folder import RunFolder
from gauntlet.runs.progress import duration
from gauntlet.terminal import steady_output

_STATES = {
    "running": "a process holds the folder's lock",
    "failed": "the last start ended with this error",
    "stopped": "killed without a word; it goes on where it was",
    "waiting": "asked for by a sweep, and not begun",
    "done": "trained and evaluated",
}
_BROKEN = ("failed", "stopped")
_MARKS = {"config.yaml", "card.json", "error.json"}
_SHOWN = 40  # runs of a state that are worth a line each
_RECENT = 50  # logged steps that say how long a step takes


@dataclass(frozen=True)
class Run:
    """What is known of a run folder."""

    folder: Path
    state: str
    said: str
    """The error, how far it is, or nothing."""


def state_of(folder: Path, suite: str | None = None) -> str:
    """One of `running`, `failed`, `stopped`, `waiting`, `done`.

    Args:
        folder: of the run.
        suite: that it has to have gone through; None for any.
    """
    run = RunFolder(folder)
    if run.at_work():
        return "running"
    if failure_of(folder) is not None:
        return "failed"
    if _finished(folder, suite):
        return "done"
    return "stopped" if begun(folder) else "waiting"


def look_at(folder: Path, suite: str | None = None) -> Run:
    """The state of a run, and what there is to say about it."""
    state = state_of(folder, suite)
    told = {"failed": failure_of, "running": progress_of, "stopped": progress_of}
    return Run(folder, state, (told[state](folder) or "") if state in told else "")


def progress_of(folder: Path) -> str:
    """`epoch 12 of 100, 3.5 h of training left`, as far as it can be known."""
    run = RunFolder(folder)
    if not begun(folder):
        return "preparing"
    if run.weights.exists() or not (folder / "config.yaml").exists():
        chunks = sum(1 for _ in run.records.glob("*/*.parquet"))
        return f"evaluating, {chunks} chunks done"
    epochs = int(run.config()["trainer"]["max_epochs"])
    rows = _metrics(folder / "metrics.csv")
    if not rows:
        return "no step logged yet"
    epoch = int(float(rows[-1]["epoch"]))
    told = f"epoch {epoch + 1} of {epochs}"
    left = _seconds_left(rows, epochs)
    return told if left is None else f"{told}, {duration(left)} of training left"


def _seconds_left(rows: Sequence[dict[str, str]], epochs: int) -> float | None:
    """From the steps of a whole epoch and the time of a step; None within the first epoch."""
    last = {int(float(row["epoch"])): int(row["step"]) + 1 for row in rows if row.get("epoch")}
    seconds = [float(row["speed/step_seconds"]) for row in rows if row.get("speed/step_seconds")]
    whole = [epoch for epoch in last if epoch + 1 in last]
    if not whole or not seconds:
        return None
    steps = last[max(whole)] / (max(whole) + 1) * epochs - int(rows[-1]["step"]) - 1
    return max(0.0, steps) * statistics.median(seconds[-_RECENT:])


def _metrics(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row.get("epoch")]


def _finished(folder: Path, suite: str | None) -> bool:
    """Whether there is a table of the suite for the weights that are there."""
    card = folder / "card.json"
    if not card.exists() or not (folder / "report.md").exists():
        return False
    plans = (folder / "suites").glob(f"{glob.escape(suite) if suite else '*'}.json")
    checkpoint = read_json(card)["checkpoint"]
    return any(read_json(plan)["checkpoint"] == checkpoint for plan in plans)


def survey(places: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """All runs in some folders and those that sweeps asked for, and the commands that run again what failed."""
    folders = list(dict.fromkeys(folder for place in places for folder in _run_folders(place)))
    homes = dict.fromkeys(home for place in places for home in (place, place / "evaluate", *place.parents[:3]))
    sweep_of = {
        job: sweep
        for home in homes
        for sweep in sweeps_of(home)
        for job in sweep.jobs
        if any(job.folder.is_relative_to(place) for place in places)
    }
    asked = {job.folder for job in sweep_of}
    runs = {job: look_at(*job) for job in sweep_of}
    alone = [look_at(folder) for folder in folders if folder not in asked]
    broken = [sweep_of[job].again("failed") for job, run in runs.items() if run.state in _BROKEN]
    broken += [command for run in alone if run.state in _BROKEN and (command := _last_command(run.folder))]
    return [*runs.values(), *alone], list(dict.fromkeys(broken))


def _run_folders(place: Path) -> Iterator[Path]:
    """Run folders in a folder, or the folder itself; networks that runs fitted for themselves do not count."""
    for path, inside, files in os.walk(place):
        if not _MARKS.isdisjoint(files):
            yield Path(path)
            inside.clear()
        inside[:] = sorted(name for name in inside if name != "references" and not name.startswith("."))


def _last_command(folder: Path) -> str | None:
    file = folder / "provenance.json"
    return shell_command(read_json(file)[-1]["command"]) if file.exists() else None


def show(runs: Sequence[Run], again: Sequence[str], places: Sequence[Path]) -> None:
    """Numbers first, then what needs a look, then what to do."""
    count = Counter(run.state for run in runs)
    print(f"{len(runs)} runs: {', '.join(f'{count[state]} {state}' for state in _STATES if count[state])}")
    for state, meaning in _STATES.items():
        those = [run for run in runs if run.state == state]
        if not those or (state in ("waiting", "done") and len(runs) > _SHOWN):
            continue
        print(f"\n{state} ({meaning})")
        for run in those[:_SHOWN]:
            print("  " + "  ".join(part for part in (_near(run.folder, places), run.said) if part))
        if len(those) > _SHOWN:
            print(f"  … and {len(those) - _SHOWN} more")
    if again:
        print("\nto run again what failed or was stopped, and nothing else:")
        for command in again[:_SHOWN]:
            print(f"  {command}")


def _near(folder: Path, places: Sequence[Path]) -> str:
    place = next((place for place in places if folder.is_relative_to(place) and folder != place), folder.parent)
    return str(folder.relative_to(place))


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    with steady_output():
        _main(words)


def _main(words: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(prog="python -m gauntlet.status", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="*", default=["outputs"], help="output folders, or run folders")
    places = [Path(folder).absolute() for folder in parser.parse_args(words).folder]
    try:
        if missing := [str(place) for place in places if not place.is_dir()]:
            raise UserError(f"no folder {', '.join(missing)}: say where run folders are")
        runs, again = survey(places)
        if not runs:
            raise UserError(f"no run in {', '.join(map(str, places))}, and no sweep was asked for there")
        show(runs, again, places)
    except UserError as error:
        print(f"gauntlet: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

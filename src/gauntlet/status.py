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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gauntlet.cluster.sweeps import Job, Sweep, shell_command, sweeps_of
from gauntlet.errors import UserError
from gauntlet.files import read_json
from gauntlet.runs.failures import begun, failure_of
from gauntlet.runs.folder import RunFolder
from gauntlet.runs.progress import duration
from gauntlet.terminal import steady_output

_STATES = {
    "running": "a process holds the folder's lock",
    "failed": "the last start ended with this error",
    "stopped": "killed without an error; the same command resumes it",
    "waiting": "part of a sweep, and not begun",
    "done": "trained and evaluated",
}
_BROKEN = ("failed", "stopped")
_MARKS = {"config.yaml", "card.json", "error.json"}
_MAX_LINES = 40  # runs listed per state
_RECENT = 50  # logged steps from which the time of a step is estimated


@dataclass(frozen=True)
class Run:
    """State of a run folder."""

    folder: Path
    state: str
    detail: str
    """The error, the progress, or nothing."""


def state_of(folder: Path, suite: str | None = None) -> str:
    """Return `running`, `failed`, `stopped`, `waiting` or `done`.

    Args:
        folder: run folder.
        suite: attack suite whose evaluation makes it `done`; None for any.
    """
    run = RunFolder(folder)
    if run.in_use():
        return "running"
    if failure_of(folder) is not None:
        return "failed"
    if _finished(folder, suite):
        return "done"
    return "stopped" if begun(folder) else "waiting"


def inspect_run(folder: Path, suite: str | None = None) -> Run:
    """Return the state of a run with its error or its progress."""
    state = state_of(folder, suite)
    detail = ""
    if state == "failed":
        detail = failure_of(folder) or ""
    elif state in ("running", "stopped"):
        detail = progress_of(folder)
    return Run(folder, state, detail)


def progress_of(folder: Path) -> str:
    """Return `epoch 12 of 100, 3.5 h of training left`, as far as known."""
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
    text = f"epoch {epoch + 1} of {epochs}"
    left = _seconds_left(rows, epochs)
    return text if left is None else f"{text}, {duration(left)} of training left"


def _seconds_left(rows: Sequence[dict[str, str]], epochs: int) -> float | None:
    """Estimate from the steps of whole epochs and the median time of a step; None within the first epoch."""
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
    """Return whether the folder holds a table of the suite for its weights."""
    card = folder / "card.json"
    if not card.exists() or not (folder / "report.md").exists():
        return False
    plans = (folder / "suites").glob(f"{glob.escape(suite) if suite else '*'}.json")
    checkpoint = read_json(card)["checkpoint"]
    return any(read_json(plan)["checkpoint"] == checkpoint for plan in plans)


def survey(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Return all runs in some folders and of their sweeps, and the commands that repeat the broken ones."""
    sweep_of = _sweep_by_job(paths)
    runs, commands = [], []
    for job, sweep in sweep_of.items():
        run = inspect_run(*job)
        runs.append(run)
        if run.state in _BROKEN:
            commands.append(sweep.again("failed"))
    in_sweeps = {job.folder for job in sweep_of}
    for folder in _run_folders(paths):
        if folder in in_sweeps:
            continue
        run = inspect_run(folder)
        runs.append(run)
        command = _last_command(folder) if run.state in _BROKEN else None
        if command:
            commands.append(command)
    return runs, list(dict.fromkeys(commands))


def _sweep_by_job(paths: Sequence[Path]) -> dict[Job, Sweep]:
    """Return the jobs of all sweeps noted in or above some folders whose run folders lie in these folders."""
    outputs: dict[Path, None] = {}
    for path in paths:
        outputs |= dict.fromkeys((path, path / "evaluate", *path.parents[:3]))
    sweep_of = {}
    for folder in outputs:
        for sweep in sweeps_of(folder):
            for job in sweep.jobs:
                if any(job.folder.is_relative_to(path) for path in paths):
                    sweep_of[job] = sweep
    return sweep_of


def _run_folders(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders in some folders, or these themselves, once each; reference networks are left out."""
    runs: dict[Path, None] = {}
    for start in paths:
        for path, folders, files in os.walk(start):
            if not _MARKS.isdisjoint(files):
                runs[Path(path)] = None
                folders.clear()
            folders[:] = sorted(name for name in folders if name != "references" and not name.startswith("."))
    return list(runs)


def _last_command(folder: Path) -> str | None:
    file = folder / "provenance.json"
    return shell_command(read_json(file)[-1]["command"]) if file.exists() else None


def show(runs: Sequence[Run], again: Sequence[str], paths: Sequence[Path]) -> None:
    """Print the number of runs by state, then the runs, then the commands that repeat the broken ones."""
    count = Counter(run.state for run in runs)
    print(f"{len(runs)} runs: {', '.join(f'{count[state]} {state}' for state in _STATES if count[state])}")
    for state, meaning in _STATES.items():
        selected = [run for run in runs if run.state == state]
        if not selected or (state in ("waiting", "done") and len(runs) > _MAX_LINES):
            continue
        print(f"\n{state} ({meaning})")
        for run in selected[:_MAX_LINES]:
            print("  " + "  ".join(part for part in (_relative(run.folder, paths), run.detail) if part))
        if len(selected) > _MAX_LINES:
            print(f"  … and {len(selected) - _MAX_LINES} more")
    if again:
        print("\nto run again what failed or was stopped, and nothing else:")
        for command in again[:_MAX_LINES]:
            print(f"  {command}")


def _relative(folder: Path, paths: Sequence[Path]) -> str:
    start = next((path for path in paths if folder.is_relative_to(path) and folder != path), folder.parent)
    return str(folder.relative_to(start))


def main(words: Sequence[str] | None = None) -> None:
    """Run the command."""
    with steady_output():
        _main(words)


def _main(words: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(prog="python -m gauntlet.status", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="*", default=["outputs"], help="output folders, or run folders")
    paths = [Path(folder).absolute() for folder in parser.parse_args(words).folder]
    try:
        if missing := [str(path) for path in paths if not path.is_dir()]:
            raise UserError(f"no folder {', '.join(missing)}: say where run folders are")
        runs, again = survey(paths)
        if not runs:
            raise UserError(f"no run in {', '.join(map(str, paths))}, and no sweep was started there")
        show(runs, again, paths)
    except UserError as error:
        print(f"gauntlet: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

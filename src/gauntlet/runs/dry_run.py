"""`dry_run=true`: show what an evaluation would do and cost. Nothing is written."""

from __future__ import annotations

from rich.table import Table

from gauntlet.evaluation import AttackSuite, Grid, ModelUnderTest
from gauntlet.evaluation.cost import Cost, cost_of
from gauntlet.evaluation.verification import device_of
from gauntlet.runs.evaluation import print_checks
from gauntlet.runs.folder import RunFolder
from gauntlet.runs.progress import duration
from gauntlet.terminal import show


def forecast(model: ModelUnderTest, suite: AttackSuite, name: str, grid: Grid, folder: RunFolder) -> None:
    """Show the plan of an evaluation, with passes, time and disk measured on a few examples."""
    chunks = grid.chunks(model)
    folders = grid.folders(model, suite, folder.records)
    print_checks(model, grid, folder, folders)
    title = f"what attack suite {name} would do on {device_of(model.classifier)}"
    table = Table(title=title, title_justify="left")
    heads = ("attack", "bound", "examples", "chunks done", "missing", "forwards", "backwards", "others", "time", "disk")
    for head in heads:
        table.add_column(head, justify="left" if head == "attack" else "right", no_wrap=True)
    seconds = size = 0.0
    for attack, records in folders.items():
        missing = sum(not records.has(index) for index in range(len(chunks)))
        cost = cost_of(model, suite.entries[attack], grid)
        seconds += missing * cost.seconds_per_chunk
        size += missing * cost.bytes_per_chunk
        bound = suite.entries[attack].threat_model.bound
        table.add_row(attack, f"{bound:.4g}" if bound else "", str(chunks[-1].stop), *_row(cost, len(chunks), missing))
    show(table, piped_width=130)
    most = " at most" if grid.mode.suffix else ""  # the number of survivors is not known yet
    print(
        f"forwards and backwards of the classifier per example, others of perceptual networks;"
        f" all of it{most} {duration(seconds)} and {_size(size)}, measured on the first few examples;"
        f" nothing was written",
        flush=True,
    )


def _row(cost: Cost, chunks: int, missing: int) -> list[str]:
    passes = [f"{count:.3g}" for count in (cost.forwards, cost.backwards, cost.others)]
    price = [duration(missing * cost.seconds_per_chunk), _size(missing * cost.bytes_per_chunk)]
    return [str(chunks - missing), str(missing), *passes, *price]


def _size(count: float) -> str:
    return f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"

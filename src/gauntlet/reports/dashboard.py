"""Log an evaluation to W&B: numbers in the summary, tables and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
from lightning.pytorch.loggers import Logger

from gauntlet.descriptions import digest
from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.distances import distance_statistics
from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.evaluation.statistics.overlap import overlaps
from gauntlet.files import write_atomically
from gauntlet.loggers import Dashboard
from gauntlet.reports.certified import pairs
from gauntlet.reports.paper_table import make_paper_table
from gauntlet.reports.render.spreadsheet import to_frame

if TYPE_CHECKING:
    from wandb import Table

_OF_THE_RUN = ("dataset", "fingerprint", "suite", "run", "folder", "checkpoint", "trained_on", "best", "p_value")


def send_evaluation(loggers: Iterable[Logger], run: Run) -> None:
    """Log the results of a run under a suite to every W&B logger, once for the same numbers.

    Args:
        loggers: loggers other than W&B's are skipped. Errors of W&B itself are printed and ignored.
        run: the run under the suite.
    """
    for logger in loggers:
        if isinstance(logger, Dashboard):
            logger.demanded = False  # the run is finished, so that errors of W&B must not stop it
            logger.safely(partial(_send, logger, run))


def _send(logger: Dashboard, run: Run) -> None:
    cells = {name: cell and list(cell) for name, cell in run.cells.items()}
    content = digest([run.plan.checkpoint, run.digests, run.plan.share, cells])
    sent = run.folder / "wandb" / f"{run.suite}.sent.json"
    if sent.exists() and json.loads(sent.read_bytes()) == content:
        return
    board = logger.experiment
    if getattr(board, "disabled", False):
        return
    board.config.update(_identity(run), allow_val_change=True)
    board.log({f"{run.suite}/{name}": thing for name, thing in _objects(run).items()})
    board.summary.update(summary(run))
    write_atomically(sent, json.dumps(content) + "\n")


def summary(run: Run) -> dict[str, float]:
    """Return every cell of the table, `<suite>/<column>`, and its interval under `_low` and `_high`.

    Certificates add both sides of their threat model: `<certificate>_certified_at_<bound>`, `…_attacked_at_…`.
    Shares are in [0, 1], distances and radii in their own units.
    """
    values: dict[str, float] = {}
    for column, cell in run.cells.items():
        if cell is not None:
            name = f"{run.suite}/{column.replace(' ', '_')}"
            values |= _with_interval(name, cell)
    for pair in pairs(run):
        for side, cell in (("certified", pair.certified), ("attacked", pair.attacked)):
            if cell is not None:
                values |= _with_interval(f"{run.suite}/{pair.certificate}_{side}_at_{pair.bound:.4g}", cell)
    return values


def _with_interval(name: str, cell: Estimate) -> dict[str, float]:
    return {name: cell.value, f"{name}_low": cell.low, f"{name}_high": cell.high}


def _identity(run: Run) -> dict[str, Any]:
    """Return what the numbers depend on, as the config of a W&B run."""
    keys = ("dataset", "model", "defense", "seed", "trained_on", "checkpoint", "fingerprint")
    return {**{key: getattr(run.card, key) for key in keys}, "attacks": run.digests}


def _objects(run: Run) -> dict[str, Any]:
    """Return tables of accuracies, distances and overlaps, and the sheet of adversarial examples."""
    import wandb

    objects: dict[str, Any] = {"accuracies": _table(to_frame([make_paper_table([run], None)]).drop(_OF_THE_RUN))}
    distances = [
        distance_statistics(frame).insert_column(0, pl.lit(name).alias("attack"))
        for name, frame in run.searched.items()
    ]
    if distances and any(len(frame) for frame in distances):
        objects["distances"] = _table(pl.concat(distances))
        rows = [(", ".join(area.attacks) or "none", area.examples) for area in overlaps(run.searched)]
        objects["overlaps"] = _table(pl.DataFrame(rows, schema=["broken by exactly", "examples"], orient="row"))
    sheet = run.folder / "pictures" / f"{run.suite}.png"
    if sheet.exists():
        objects["examples"] = wandb.Image(str(sheet), caption="clean, adversarial, magnified difference")
    return objects


def _table(frame: pl.DataFrame) -> Table:
    import wandb

    return wandb.Table(columns=[*frame.columns], data=[list(row) for row in frame.iter_rows()])

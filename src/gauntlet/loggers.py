"""Where metrics go: a CSV file always, W&B when there is one."""

from __future__ import annotations

import csv
import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from gauntlet.errors import UserError
from gauntlet.files import write_atomically

_SECONDS = 5.0  # between two writes of the metrics; a checkpoint to go on from writes them too


class MetricsCSV(Logger):
    """`metrics.csv` in the run folder: a row per logged step. A resumed run overwrites the steps it does again.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self._file = Path(folder) / "metrics.csv"
        self._rows: dict[int, dict[str, Any]] = {}
        self._old: dict[int, dict[str, Any]] | None = None
        self._written = -_SECONDS

    @property
    def name(self) -> str:
        """As Lightning shows it."""
        return "csv"

    @property
    def version(self) -> str:
        """There is one per run folder."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run folder has the config already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add values to the row of a step."""
        step = step or 0
        if self._old is None:
            self._old = {number: row for number, row in self._read().items() if number < step}
        self._rows.setdefault(step, {}).update(metrics)

    @rank_zero_only
    def save(self) -> None:
        """Lightning asks after every row: write every few seconds."""
        if time.monotonic() - self._written > _SECONDS:
            self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Write the file anew."""
        self._written = time.monotonic()
        rows = {**(self._old or {}), **self._rows}
        if not self._rows:
            return
        columns = ["step", *sorted({name for row in rows.values() for name in row})]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({"step": step, **rows[step]} for step in sorted(rows))
        write_atomically(self._file, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """At the end, however it came."""
        self.flush()

    def _read(self) -> dict[int, dict[str, Any]]:
        if not self._file.exists():
            return {}
        with self._file.open(newline="", encoding="utf-8") as stream:
            return {int(row.pop("step")): {k: v for k, v in row.items() if v} for row in csv.DictReader(stream)}


def finish_wandb(exit_code: int = 0) -> None:
    """End the W&B run of this process, if there is one: the next job of a sweep begins its own.

    A scheduler that ends a job ends W&B's own process with it. That is no reason for the run to fail.

    Args:
        exit_code: of the job; a dashboard shows any but 0 as failed.
    """
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        try:
            wandb.finish(exit_code=exit_code)
        except Exception as error:
            print(f"W&B could not be finished ({type(error).__name__}): its files may lack the last steps", flush=True)


@contextmanager
def wandb_finished() -> Iterator[None]:
    """End the W&B run with the job, however the job ends.

    Raises:
        UserError: W&B refused the run, or could not be reached; what the job has written stays.
    """
    try:
        yield
    except BaseException as error:
        finish_wandb(exit_code=1)
        if "wandb" in sys.modules and isinstance(error, sys.modules["wandb"].errors.Error):
            raise UserError(
                f"W&B: {error}; what is done is kept, and the same command goes on from here: log in anew with"
                " `wandb login`, or set WANDB_MODE=offline and send it later with `wandb sync`"
            ) from error
        raise
    finish_wandb()


def wandb_logger(
    folder: str | Path, project: str, name: str, group: str, run_id: str, job_type: str = "train"
) -> Logger:
    """W&B: online where somebody is logged in, else offline without asking. `WANDB_MODE` has the last word.

    Args:
        folder: of the run; W&B's own files go to `wandb/` in it.
        project: W&B project.
        name: of the run, as a dashboard shows it.
        group: the runs it belongs with; `WANDB_RUN_GROUP`, which a sweep sets, has the last word.
        run_id: a function of the config, so that a requeued job goes on in the same run.
        job_type: `train` or `evaluate`.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    logged_in = "WANDB_MODE" not in os.environ and wandb.login(prompt=False, verify=False)
    mode = os.environ.get("WANDB_MODE", "online" if logged_in else "offline")
    return WandbLogger(
        save_dir=folder,
        project=project,
        name=name,
        group=os.environ.get("WANDB_RUN_GROUP", group),
        id=run_id,
        job_type=job_type,
        offline=mode != "online",
        mode=mode,
        resume="allow" if mode == "online" else None,
    )

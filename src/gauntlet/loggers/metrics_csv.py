"""`metrics.csv`: every logged number, in the run folder."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from gauntlet.files import write_atomically

_SECONDS = 5.0  # between two writes of the file; checkpoints write it, too


class MetricsCSV(Logger):
    """Writes `metrics.csv` in the run folder, a row per logged step. A resumed run overwrites the steps it repeats.

    Lightning's `CSVLogger` is not used: in a folder that has a file, it deletes it.

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
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Empty: there is one file per run folder."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run folder has the config already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add values to the row of a step."""
        step = step or 0
        if self._old is None:
            self._old = {number: row for number, row in self._read().items() if number < step}
        self._rows.setdefault(step, {}).update(metrics)

    @rank_zero_only
    def save(self) -> None:
        """Write the file if the last write is some seconds old; Lightning calls this after every row."""
        if time.monotonic() - self._written > _SECONDS:
            self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Write the whole file."""
        self._written = time.monotonic()
        rows = {**(self._old or {}), **self._rows}
        if not self._rows:
            return
        names = set[str]().union(*rows.values())
        columns = ["step", *sorted(names)]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({"step": step, **rows[step]} for step in sorted(rows))
        write_atomically(self._file, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the whole file at the end."""
        self.flush()

    def _read(self) -> dict[int, dict[str, Any]]:
        if not self._file.exists():
            return {}
        rows = {}
        with self._file.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                step = int(row.pop("step"))
                rows[step] = {name: value for name, value in row.items() if value}
        return rows

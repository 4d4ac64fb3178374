"""Outcomes: what happened to each example under each attack, one small immutable file per (attack, chunk).

A valid file is the state: nothing else has to be kept to go on after a kill. Files of different identities lie in
different folders, so what was measured on other weights, data or attacks is never mixed in.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from gauntlet.errors import UserError
from gauntlet.files import write_atomically
from gauntlet.identity import digest

SCHEMA: Mapping[str, type[pl.DataType]] = {
    "example_id": pl.Int64,
    "label": pl.Int64,
    "clean_prediction": pl.Int64,
    "prediction": pl.Int64,
    "robust": pl.Boolean,
    "inside": pl.Boolean,
    "size": pl.Float32,
    "linf": pl.Float32,
    "l2": pl.Float32,
    "lpips": pl.Float32,
    "lpips_calibrated": pl.Float32,
    "margin": pl.Float32,
    "kind": pl.String,
    "radius": pl.Float32,
    "abstained": pl.Boolean,
    "seconds": pl.Float32,
}
"""`size` is the share of the bound used; `linf`, `l2`, `lpips` are measured from the two images alone; `margin` is the
label's lead over the best other class on the image that came back; `kind` is `attack` or `certificate`, which has a
`radius`; `seconds` is the chunk's time shared out evenly and the one column that differs between runs."""


@dataclass(frozen=True)
class OutcomeFolder:
    """The outcomes of one attack with one identity.

    Args:
        root: `outcomes/` of a run folder.
        name: of the attack in tables.
        identity: all that the records depend on, as JSON values.
    """

    root: Path
    name: str
    identity: Mapping[str, Any]

    @cached_property
    def path(self) -> Path:
        """`outcomes/<attack>-<digest of the identity>`."""
        return self.root / f"{self.name}-{digest(self.identity)[:12]}"

    def has(self, chunk: int) -> bool:
        """Whether a chunk is done."""
        return self._file(chunk).exists()

    def write(self, chunk: int, rows: Mapping[str, Any]) -> None:
        """Keep a chunk: all columns of the schema."""
        if not (self.path / "identity.json").exists():
            write_atomically(self.path / "identity.json", json.dumps(self.identity, indent=1, sort_keys=True) + "\n")
        buffer = io.BytesIO()
        pl.DataFrame(rows, schema=SCHEMA).write_parquet(buffer)
        write_atomically(self._file(chunk), buffer.getvalue())

    def _file(self, chunk: int) -> Path:
        return self.path / f"{chunk:05d}.parquet"


def read_outcomes(path: Path) -> pl.DataFrame:
    """All records in a folder of one attack, by example id.

    Raises:
        UserError: a file is damaged.
    """
    frames = []
    for file in sorted(path.glob("[0-9]*.parquet")):
        try:
            frames.append(pl.read_parquet(file))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{file} is damaged ({str(error)[:80]}): remove it and run the evaluation again") from None
    return pl.concat(frames).sort("example_id") if frames else pl.DataFrame(schema=SCHEMA)

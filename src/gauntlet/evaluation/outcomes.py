"""Outcomes: what happened to each example under each attack, one small immutable file per (attack, chunk).

A valid file is the state: nothing else has to be kept to go on after a kill. Files of different identities lie in
different folders, so what was measured on other weights, data or attacks is never mixed in.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from gauntlet.errors import UserError
from gauntlet.files import read_json, write_atomically
from gauntlet.identity import differences, digest

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

    def read(self, chunk: int) -> pl.DataFrame:
        """The records of a chunk that is done."""
        return _read(self._file(chunk))

    @contextmanager
    def taking(self, chunk: int) -> Iterator[bool]:
        """Whether the chunk is ours: no other process is at it. A process that dies lets go of what it took."""
        self.path.mkdir(parents=True, exist_ok=True)
        held = self.path / f".{chunk:05d}.lock"
        lock = FileLock(held, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            for scrap in self.path.glob(f".{self._file(chunk).name}.*"):  # of one that died while writing
                scrap.unlink(missing_ok=True)
            yield True
        finally:
            if self.has(chunk):  # whoever still waits for this lock looks first whether the chunk is done
                held.unlink(missing_ok=True)
            lock.release()

    def write(self, chunk: int, rows: Mapping[str, Any] | pl.DataFrame) -> None:
        """Keep a chunk: all columns of the schema."""
        if not (self.path / "identity.json").exists():
            write_atomically(self.path / "identity.json", json.dumps(self.identity, indent=1, sort_keys=True) + "\n")
        write_atomically(self._file(chunk), as_parquet(rows))

    def changed(self) -> list[str]:
        """What sets this identity apart from the nearest that the attack has here: nothing, if this is not the first.

        The lines are `key: there → here`.
        """
        if (self.path / "identity.json").exists():
            return []
        others = self.root.glob(f"{self.name}-{'[0-9a-f]' * 12}/identity.json")
        now = json.loads(json.dumps(self.identity))
        return min((differences(read_json(file), now) for file in others), key=len, default=[])

    def _file(self, chunk: int) -> Path:
        return self.path / f"{chunk:05d}.parquet"


def as_parquet(rows: Mapping[str, Any] | pl.DataFrame) -> bytes:
    """Records as the content of a file."""
    buffer = io.BytesIO()
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(buffer)
    return buffer.getvalue()


def read_outcomes(path: Path) -> pl.DataFrame:
    """All records in a folder of one attack, by example id.

    Raises:
        UserError: a file is damaged.
    """
    frames = [_read(file) for file in sorted(path.glob("[0-9]*.parquet"))]
    return pl.concat(frames).sort("example_id") if frames else pl.DataFrame(schema=SCHEMA)


def with_fallen(survivors: pl.DataFrame, earlier: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """`example_id` and `robust` of survivors and of those who fell to earlier attacks: what a union is taken over.

    Args:
        survivors: records of an attack that was run on those still standing.
        earlier: records of the attacks before it.
    """
    columns = ["example_id", "robust"]
    fallen = [frame.filter(~pl.col("robust")).select(columns) for frame in earlier]
    return pl.concat([survivors.select(columns), *fallen]).unique("example_id", keep="first").sort("example_id")


def _read(file: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(io.BytesIO(file.read_bytes()))  # polars itself opens no name that is not UTF-8
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file} is damaged ({str(error)[:80]}): remove it and run the evaluation again") from None

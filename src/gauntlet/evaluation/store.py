"""Store records: one small immutable file per entry of a suite and chunk of examples.

A run is resumed from the files that exist; no other state is kept. Files of different identities lie in different
folders, so that records of other weights, data or attacks are never mixed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from filelock import FileLock, Timeout

from gauntlet.descriptions import differences, digest
from gauntlet.errors import UserError
from gauntlet.evaluation.evidence import SCHEMAS
from gauntlet.files import read_json, write_atomically
from gauntlet.kinds import Kind

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RecordFolder:
    """The records of one entry with one identity.

    Args:
        root: `records/` of a run folder.
        name: name of the entry in tables.
        kind: kind of the entry, which decides the columns.
        identity: everything the records depend on, as JSON values.
    """

    root: Path
    name: str
    kind: Kind
    identity: Mapping[str, Any]

    @cached_property
    def path(self) -> Path:
        """`records/<entry>-<digest of the identity>`."""
        return self.root / f"{self.name}-{digest(self.identity)[:12]}"

    def has(self, chunk: int) -> bool:
        """Whether a chunk is finished."""
        return self._file(chunk).exists()

    def has_images(self, chunk: int) -> bool:
        """Whether the images of a chunk were stored."""
        return self._images(chunk).exists()

    def read(self, chunk: int) -> pl.DataFrame:
        """Read the records of a finished chunk."""
        return _read(self._file(chunk))

    @contextmanager
    def taking(self, chunk: int) -> Iterator[bool]:
        """Lock a chunk; yields False if another process holds the lock. The lock of a process that dies is released."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock_file = self.path / f".{chunk:05d}.lock"
        lock = FileLock(lock_file, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            for file in (self._file(chunk), self._images(chunk)):
                for partial in self.path.glob(f".{file.name}.*"):  # left by a process that died while writing
                    partial.unlink(missing_ok=True)
            yield True
        finally:
            if self.has(chunk):  # a process that still waits for this lock checks first whether the chunk is finished
                lock_file.unlink(missing_ok=True)
            lock.release()

    def write(self, chunk: int, records: pl.DataFrame) -> None:
        """Write the records of a chunk, with all columns of the kind."""
        if not (self.path / "identity.json").exists():
            write_atomically(self.path / "identity.json", json.dumps(self.identity, indent=1, sort_keys=True) + "\n")
        write_atomically(self._file(chunk), as_parquet(records))

    def write_images(self, chunk: int, ids: Sequence[int], images: Tensor) -> None:
        """Write the images `[N, C, H, W]` of a chunk's records as safetensors, with their example ids."""
        import torch
        from safetensors.torch import save

        content = save({"example_id": torch.tensor(ids, dtype=torch.int64), "images": images.contiguous()})
        write_atomically(self._images(chunk), content)

    def read_images(self, chunk: int) -> dict[int, Tensor]:
        """Read the stored images of a chunk, `[C, H, W]` by example id."""
        from safetensors.torch import load

        content = load(self._images(chunk).read_bytes())
        return dict(zip(content["example_id"].tolist(), content["images"], strict=True))

    def changed(self) -> list[str]:
        """Return how this identity differs from the most similar stored identity of the entry, as `key: stored → new`.

        Empty if there are records of this identity, or none of the entry at all.
        """
        if (self.path / "identity.json").exists():
            return []
        others = self.root.glob(f"{self.name}-{'[0-9a-f]' * 12}/identity.json")
        now = json.loads(json.dumps(self.identity))
        return min((differences(read_json(file), now) for file in others), key=len, default=[])

    def _file(self, chunk: int) -> Path:
        return self.path / f"{chunk:05d}.parquet"

    def _images(self, chunk: int) -> Path:
        return self.path / f"{chunk:05d}.safetensors"


def as_parquet(records: pl.DataFrame) -> bytes:
    """Return records as the content of a file."""
    buffer = io.BytesIO()
    records.write_parquet(buffer)
    return buffer.getvalue()


def read_records(path: Path, kind: Kind) -> pl.DataFrame:
    """Read all records in a folder of one entry, sorted by example id.

    Raises:
        UserError: a file is damaged.
    """
    frames = [_read(file) for file in sorted(path.glob("[0-9]*.parquet"))]
    return pl.concat(frames).sort("example_id") if frames else pl.DataFrame(schema=SCHEMAS[kind])


def with_earlier(survivors: pl.DataFrame, earlier: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return `example_id` and `correct` of all examples for an attack that ran on survivors only.

    Args:
        survivors: records of the attack.
        earlier: records of the entries before it; the examples they broke count as not correct.
    """
    columns = ["example_id", "correct"]
    broken = [frame.filter(~pl.col("correct")).select(columns) for frame in earlier]
    return pl.concat([survivors.select(columns), *broken]).unique("example_id", keep="first").sort("example_id")


def _read(file: Path) -> pl.DataFrame:
    """Read a file. Its content is cached until the file changes."""
    try:
        status = file.stat()
        return _opened(file, status.st_mtime_ns, status.st_size)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file} is damaged ({str(error)[:80]}): remove it and run the evaluation again") from None


@lru_cache(maxsize=1 << 14)  # files of one chunk each, of a few kilobytes
def _opened(file: Path, _modified: int, _size: int) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(file.read_bytes()))  # polars cannot open file names that are not UTF-8

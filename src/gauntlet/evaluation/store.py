"""The store of records: one small immutable file per entry of a suite and chunk of examples.

A valid file is the state: nothing else has to be kept to go on after a kill. Files of different identities lie in
different folders, so what was measured on other weights, data or attacks is never mixed in.
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

from gauntlet.errors import UserError
from gauntlet.evaluation.evidence import SCHEMAS
from gauntlet.files import read_json, write_atomically
from gauntlet.identity import differences, digest
from gauntlet.kinds import Kind

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RecordFolder:
    """The records of one entry with one identity.

    Args:
        root: `records/` of a run folder.
        name: of the entry in tables.
        kind: of the entry, which decides the columns.
        identity: all that the records depend on, as JSON values.
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
        """Whether a chunk is done."""
        return self._file(chunk).exists()

    def has_images(self, chunk: int) -> bool:
        """Whether the images of a chunk were kept."""
        return self._images(chunk).exists()

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
            for file in (self._file(chunk), self._images(chunk)):
                for scrap in self.path.glob(f".{file.name}.*"):  # of one that died while writing
                    scrap.unlink(missing_ok=True)
            yield True
        finally:
            if self.has(chunk):  # whoever still waits for this lock looks first whether the chunk is done
                held.unlink(missing_ok=True)
            lock.release()

    def write(self, chunk: int, records: pl.DataFrame) -> None:
        """Keep a chunk: all columns of its kind."""
        if not (self.path / "identity.json").exists():
            write_atomically(self.path / "identity.json", json.dumps(self.identity, indent=1, sort_keys=True) + "\n")
        write_atomically(self._file(chunk), as_parquet(records))

    def write_images(self, chunk: int, ids: Sequence[int], images: Tensor) -> None:
        """Keep the images `[N, C, H, W]` that the records of a chunk are about, as safetensors, by example id."""
        import torch
        from safetensors.torch import save

        content = save({"example_id": torch.tensor(ids, dtype=torch.int64), "images": images.contiguous()})
        write_atomically(self._images(chunk), content)

    def read_images(self, chunk: int) -> dict[int, Tensor]:
        """The kept images of a chunk, `[C, H, W]` by example id."""
        from safetensors.torch import load_file

        content = load_file(self._images(chunk))
        return dict(zip(content["example_id"].tolist(), content["images"], strict=True))

    def changed(self) -> list[str]:
        """What sets this identity apart from the nearest that the entry has here: nothing, if this is not the first.

        The lines are `key: there → here`.
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
    """Records as the content of a file."""
    buffer = io.BytesIO()
    records.write_parquet(buffer)
    return buffer.getvalue()


def read_records(path: Path, kind: Kind) -> pl.DataFrame:
    """All records in a folder of one entry, by example id.

    Raises:
        UserError: a file is damaged.
    """
    frames = [_read(file) for file in sorted(path.glob("[0-9]*.parquet"))]
    return pl.concat(frames).sort("example_id") if frames else pl.DataFrame(schema=SCHEMAS[kind])


def with_earlier(survivors: pl.DataFrame, earlier: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """`example_id` and `correct` of all examples, for an attack that ran on those that earlier ones left correct.

    Args:
        survivors: records of the attack.
        earlier: records of the attacks before it.
    """
    columns = ["example_id", "correct"]
    broken = [frame.filter(~pl.col("correct")).select(columns) for frame in earlier]
    return pl.concat([survivors.select(columns), *broken]).unique("example_id", keep="first").sort("example_id")


def _read(file: Path) -> pl.DataFrame:
    """A file's records; a file is opened once, however often an evaluation asks for it."""
    try:
        facts = file.stat()
        return _opened(file, facts.st_mtime_ns, facts.st_size)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file} is damaged ({str(error)[:80]}): remove it and run the evaluation again") from None


@lru_cache(maxsize=1 << 14)  # files of a chunk each: a few kilobytes
def _opened(file: Path, _modified: int, _size: int) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(file.read_bytes()))  # polars itself opens no name that is not UTF-8

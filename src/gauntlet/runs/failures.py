"""The last error of a run, kept in its folder for `gauntlet.status`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from gauntlet.cluster.ranks import ranks
from gauntlet.errors import InUse, UserError, first_line
from gauntlet.files import read_json, write_atomically

TRACES_REQUESTED = bool(os.environ.get("HYDRA_FULL_ERROR"))
"""Whether the user set the variable; read before the command line sets it for Hydra."""

_FILE = "error.json"


@contextmanager
def failures_noted(folder: Path, always: bool) -> Iterator[None]:
    """Record the error that ends a run; a new start removes the record of the last one.

    Args:
        folder: run folder.
        always: record errors before the run has begun too: in a sweep they are failed jobs.
    """
    if ranks().rank == 0:
        with suppress(OSError):  # a finished run may lie on a read-only disk
            (folder / _FILE).unlink(missing_ok=True)
    try:
        yield
    except InUse:  # another process works in the folder; its run has not failed
        raise
    except Exception as error:
        if always or begun(folder):
            note_failure(folder, f"{type(error).__name__}: {first_line(error)}")
        raise


def note_failure(folder: Path, line: str) -> None:
    """Record the line unless there is one: the first error of several ranks causes the others."""
    if not (folder / _FILE).exists():
        now = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"error": line, "time": now, "host": platform.node()}
        with suppress(UserError):  # a folder that cannot be written must not hide the error itself
            write_atomically(folder / _FILE, json.dumps(content, indent=1) + "\n")


def begun(folder: Path) -> bool:
    """Return whether a run or an evaluation has begun in the folder."""
    return any((folder / file).exists() for file in ("config.yaml", "card.json"))


def failure_of(folder: Path) -> str | None:
    """Return the error of the last start; None if it did not fail."""
    return str(read_json(folder / _FILE)["error"]) if (folder / _FILE).exists() else None

"""The last error of a run, kept in its folder for whoever asks how a sweep goes."""

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

ASKED_FOR_TRACES = bool(os.environ.get("HYDRA_FULL_ERROR"))
"""Whether somebody set it, read before the doors set it for Hydra."""

_FILE = "error.json"


@contextmanager
def failures_noted(folder: Path, always: bool) -> Iterator[None]:
    """Keep the line of whatever ends a run; a new start forgets that of the last one.

    Args:
        folder: of the run.
        always: also where the run has not begun: in a sweep a refusal is a failed job, else it leaves nothing.
    """
    if ranks().rank == 0:
        with suppress(OSError):  # a finished run on a read-only disk can still be looked at
            (folder / _FILE).unlink(missing_ok=True)
    try:
        yield
    except InUse:  # the folder is somebody else's, who does well
        raise
    except Exception as error:
        if always or begun(folder):
            note_failure(folder, f"{type(error).__name__}: {first_line(error)}")
        raise


def note_failure(folder: Path, line: str) -> None:
    """Keep the line, unless there is one: the first error of several ranks is the cause of the others."""
    if not (folder / _FILE).exists():
        now = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"error": line, "time": now, "host": platform.node()}
        with suppress(UserError):  # what cannot be noted there must not hide the error itself
            write_atomically(folder / _FILE, json.dumps(content, indent=1) + "\n")


def begun(folder: Path) -> bool:
    """Whether a run or an evaluation has left more there than a lock."""
    return any((folder / file).exists() for file in ("config.yaml", "card.json"))


def failure_of(folder: Path) -> str | None:
    """The line, if the run failed the last time."""
    return str(read_json(folder / _FILE)["error"]) if (folder / _FILE).exists() else None

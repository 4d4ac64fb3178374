"""Reading files, and writing them atomically: complete or not at all."""

from __future__ import annotations

import errno
import json
import os
import secrets
from pathlib import Path
from typing import Any

from gauntlet.errors import UserError


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read ({str(error)[:80]}): remove it and run the same command again"
        ) from None


def beginning(file: Path) -> str:
    """Describe the start of an unexpected file: `it is empty`, `it is a web page`, `it begins with b'PK'`."""
    with file.open("rb") as stream:
        head = stream.read(256).lstrip()
    if head.lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page"
    return f"it begins with {head[:12]!r}" if head else "it is empty"


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(file: Path, content: bytes | str) -> None:
    """Write to a temporary name beside the file, flush to disk, rename; creates the folder.

    A file that already has this content is not written, so that a finished run can be shown from a read-only disk.
    Text is UTF-8; bytes of file names that are not UTF-8 are written as escapes. Permissions follow the umask.

    Raises:
        UserError: the disk is full, or the file cannot be written.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    if _has_content(file, data):
        return
    try:
        _write(file, data)
    except OSError as error:
        reason = f"{error.filename} is a file" if isinstance(error, FileExistsError) else error.strerror
        remedy = "make room, the same command goes on from here" if error.errno in _FULL else "choose another folder"
        raise UserError(f"{file} could not be written ({reason}): {remedy}") from None


def _has_content(file: Path, data: bytes) -> bool:
    try:
        return file.stat().st_size == len(data) and file.read_bytes() == data
    except OSError:
        return False


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.parent / f".{file.name}.{secrets.token_hex(4)}"
    try:
        with temporary.open("xb") as stream:  # opened like any other file: the kernel applies the umask
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

"""What a class folder holds: pictures, at any depth, and everything else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gauntlet.data.pictures import is_picture, promises_picture


class Listing(NamedTuple):
    """The files of a folder and of the folders inside it."""

    pictures: list[Path]
    others: list[Path]
    """Hidden files and folders, and what is no picture."""


def listed(folder: Path) -> Listing:
    """Every picture in a folder, at any depth. Links are followed; one that leads back up is not.

    A link to nowhere, or to itself, that is called like a picture counts as one, which is refused when it is opened.
    """
    listing = Listing([], [])
    for entry in _entries(folder, frozenset(_key(above.stat()) for above in folder.absolute().parents)):
        file = _is_file(entry)
        there = file and is_picture(Path(entry))
        lost = entry.is_symlink() and not file and promises_picture(entry.name)
        kind = listing.pictures if (there or lost) and not entry.name.startswith(".") else listing.others
        kind.append(Path(entry))
    return listing


def _entries(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """Files at any depth, and hidden folders as one entry each.

    Args:
        folder: which.
        above: device and inode of the folders that it lies in, which are not entered again.
    """
    here = above | {_key(folder.stat())}
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        if not is_folder(entry) or entry.name.startswith("."):
            yield entry
        elif _key(entry.stat()) not in here:
            yield from _entries(Path(entry), here)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one that is there."""
    with suppress(OSError):  # of links that lead to each other, or to where this user may not look
        return entry.is_dir()
    return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # as above
        return entry.is_file()
    return False


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino

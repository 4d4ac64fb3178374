"""List the pictures and all other files of a class folder, at any depth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gauntlet.data.pictures import has_picture_extension, is_picture


class Listing(NamedTuple):
    """The files of a folder and of the folders inside it."""

    pictures: list[Path]
    others: list[Path]
    """Hidden files and folders, and files that are no pictures."""


def listed(folder: Path) -> Listing:
    """List every picture in a folder, at any depth. Links are followed, except to folders above.

    A broken link with the extension of a picture counts as one, and is refused when it is opened.
    """
    listing = Listing([], [])
    parents = frozenset(_key(parent.stat()) for parent in folder.absolute().parents)
    for entry in _entries(folder, parents):
        if not entry.name.startswith(".") and _is_picture_or_broken_link(entry):
            listing.pictures.append(Path(entry))
        else:
            listing.others.append(Path(entry))
    return listing


def _is_picture_or_broken_link(entry: os.DirEntry[str]) -> bool:
    if _is_file(entry):
        return is_picture(Path(entry))
    return entry.is_symlink() and has_picture_extension(entry.name)


def _entries(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """Yield files at any depth, and hidden folders as one entry each.

    Args:
        folder: to list.
        above: device and inode of the folders around it, which are not entered again.
    """
    entered = above | {_key(folder.stat())}
    with os.scandir(folder) as scan:
        entries = list(scan)
    for entry in entries:
        if not is_folder(entry) or entry.name.startswith("."):
            yield entry
        elif _key(entry.stat()) not in entered:
            yield from _entries(Path(entry), entered)


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

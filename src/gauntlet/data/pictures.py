"""Picture files: opened, or refused in one line that names the file; many looked at before anything begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from gauntlet.errors import UserError, first_line
from gauntlet.files import beginning

LOOKED_AT = 10_000
"""How many pictures of a folder are looked at: a second or two. The others are when they are read."""

_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 1024  # bytes in which a whole file has its end; some programs write a little behind it


class UnreadablePicture(UserError):  # noqa: N818
    """A file that is no picture. Its one line survives the worker process, which wraps it in a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(message.strip().splitlines()[-1].removeprefix(f"{__name__}.{type(self).__name__}: "))


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """A picture of 8 bits a channel, whose pixels are read when they are asked for.

    Raises:
        UnreadablePicture: it is none, also if that shows only inside the context.
    """
    try:
        with Image.open(file) as picture:
            if picture.mode[0] in "IF":
                raise UnreadablePicture(
                    f"{file} has {picture.mode} pixels: expected 8 bits a channel; convert or remove it"
                )
            yield picture
    except UnidentifiedImageError:
        raise UnreadablePicture(f"{file} is no picture, {beginning(file)}: fetch it again, or remove it") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        refused = error.strerror if isinstance(error, OSError) else None  # by the system; PIL's errors have none
        damaged = isinstance(error, OSError | SyntaxError)
        what = f"cannot be {'read' if refused else 'used'} ({refused or first_line(error)[:100]})"
        what = f"is damaged or cut off ({first_line(error)[:100]})" if damaged and not refused else what
        raise UnreadablePicture(f"{file} {what}: fetch it again, or remove it") from None


def look_at(files: Iterable[Path]) -> None:
    """The head and the end of the first 10,000 pictures; one that seems cut off is read whole.

    Raises:
        UnreadablePicture: of the first that is none.
    """
    for file in islice(files, LOOKED_AT):
        with opened(file) as picture:
            if not _seems_whole(file, picture.format):
                picture.load()


def _seems_whole(file: Path, kind: str | None) -> bool:
    if kind not in _ENDS:
        return True
    with file.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, 2) - _TAIL))
        return _ENDS[kind] in stream.read()

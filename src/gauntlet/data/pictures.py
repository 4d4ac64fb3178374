"""Picture files: opened, or refused in one line that names the file; many looked at before anything begins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import StubImageFile

from gauntlet.errors import UserError, first_line
from gauntlet.files import beginning

LOOKED_AT = 10_000
"""How many pictures of a folder are looked at: a second or two. The others are when they are read."""

_NAMED = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2"),
)
"""Names that promise a picture: a file of such a name that is none is refused. Of all others the content decides."""

_NO_IMAGES = ("MPEG", "WMF", "EMF", "EPS")  # formats that Pillow recognises and cannot decode, or not everywhere

_READERS = 8  # threads that hash files: disks and networks answer several at once
_CHUNK = 256  # files a thread takes at once

_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 1024  # bytes in which a whole file has its end; some programs write a little behind it


class UnreadablePicture(UserError):  # noqa: N818
    """A file that is no picture. Its one line survives the worker process, which wraps it in a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"\n{__name__}.{type(self).__name__}: ")[2].strip())


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
    except UserError:
        raise
    except Exception as error:  # a decoder makes anything of a damaged file
        refused = error.strerror if isinstance(error, OSError) else None  # by the system; PIL's errors have none
        damaged = not isinstance(error, ValueError | Image.DecompressionBombError)
        what = f"cannot be {'read' if refused else 'used'} ({refused or first_line(error)[:100]})"
        what = f"is damaged or cut off ({first_line(error)[:100]})" if damaged and not refused else what
        raise UnreadablePicture(f"{file} {what}: fetch it again, or remove it") from None


def promises_picture(name: str) -> bool:
    """Whether a file is called as pictures are."""
    return name.lower().endswith(_NAMED)


def is_picture(file: Path) -> bool:
    """Whether a file is a picture by its name, or, where the name says nothing, by its content.

    Any format counts that Pillow decodes. Only the head of a file is read.
    """
    if promises_picture(file.name):
        return True
    try:
        with Image.open(file) as picture:
            stub, kind = isinstance(picture, StubImageFile), picture.format or ""
    except Exception:  # a file of anything, of which a decoder may make anything
        return False
    # Targa and a few others have no signature, so that noise may pass for one; MPO is found by way of JPEG.
    signed = kind not in Image.OPEN or Image.OPEN[kind][1] is not None
    named = Image.registered_extensions().get(file.suffix.lower()) == kind
    return not stub and kind not in _NO_IMAGES and (signed or named)


def digests_of(files: Sequence[Path]) -> list[str]:
    """SHA-256 of the bytes of every file, in their order.

    Every byte is read once, by several threads: a second a gigabyte from memory or a fast disk, and as long as the
    disk takes from a slow one.

    Raises:
        UnreadablePicture: a file cannot be read.
    """
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor(_READERS) as threads:
        return [digest for chunk in threads.map(_digests, chunks) for digest in chunk]


def _digests(files: Sequence[Path]) -> list[str]:
    return [_digest(file) for file in files]


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UnreadablePicture(f"{file} cannot be read ({error.strerror}): fetch it again, or remove it") from None


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

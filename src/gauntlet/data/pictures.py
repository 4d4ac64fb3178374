"""Open picture files, or refuse them in one line with the file's name; check many of them before a run begins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import StubImageFile

from gauntlet.errors import UserError, first_line
from gauntlet.files import beginning

MAX_CHECKED = 10_000
"""Number of pictures of a folder that are checked first, in one or two seconds; the others are checked when read."""

_EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2"),
)
"""Extensions of pictures: such a file is refused if it is none. For other files the content decides."""

_NO_IMAGES = ("MPEG", "WMF", "EMF", "EPS")  # formats that Pillow recognises but cannot decode, at least on some systems

_READERS = 8  # threads that hash files: disks and networks serve several requests at once
_CHUNK = 256  # files per task of a thread

_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 1024  # bytes at the end of a file that contain the end marker; some programs append data


class UnreadablePicture(UserError):  # noqa: N818
    """A file is no picture. The message stays one line when a worker process wraps it in a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"\n{__name__}.{type(self).__name__}: ")[2].strip())


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """Open a picture of 8 bits per channel; its pixels are read lazily.

    Raises:
        UnreadablePicture: the file is no picture, or its pixels cannot be read inside the context.
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
    except Exception as error:  # a decoder may raise any exception for a damaged file
        raise UnreadablePicture(f"{file} {_problem(error)}: fetch it again, or remove it") from None


def _problem(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:  # an error of the system; PIL's have no strerror
        return f"cannot be read ({error.strerror})"
    if not isinstance(error, ValueError | Image.DecompressionBombError):
        return f"is damaged or cut off ({first_line(error)[:100]})"
    return f"cannot be used ({first_line(error)[:100]})"


def has_picture_extension(name: str) -> bool:
    """Return whether a file name has the extension of a picture."""
    return name.lower().endswith(_EXTENSIONS)


def is_picture(file: Path) -> bool:
    """Return whether a file is a picture by its extension or, without a known one, by its content.

    Every format that Pillow decodes counts. Only the head of the file is read.
    """
    if has_picture_extension(file.name):
        return True
    try:
        with Image.open(file) as picture:
            is_stub = isinstance(picture, StubImageFile)
            kind = picture.format or ""
    except Exception:  # a decoder may raise anything for an arbitrary file
        return False
    # Formats without a signature, such as Targa, also match random bytes; MPO is found by way of JPEG.
    signed = kind not in Image.OPEN or Image.OPEN[kind][1] is not None
    matches = Image.registered_extensions().get(file.suffix.lower()) == kind
    return not is_stub and kind not in _NO_IMAGES and (signed or matches)


def digests_of(files: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of every file, in their order.

    Every byte is read once, by several threads: about a second per gigabyte from memory or a fast disk.

    Raises:
        UnreadablePicture: a file cannot be read.
    """
    with ThreadPoolExecutor(_READERS) as threads:
        chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
        return list(chain.from_iterable(threads.map(_digests, chunks)))


def _digests(files: Sequence[Path]) -> list[str]:
    return [_digest(file) for file in files]


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UnreadablePicture(f"{file} cannot be read ({error.strerror}): fetch it again, or remove it") from None


def check_pictures(files: Iterable[Path]) -> None:
    """Check head and end of the first 10,000 pictures; files that seem cut off are decoded completely.

    Raises:
        UnreadablePicture: for the first file that is no picture.
    """
    for file in islice(files, MAX_CHECKED):
        with opened(file) as picture:
            if not _has_end_marker(file, picture.format):
                picture.load()


def _has_end_marker(file: Path, kind: str | None) -> bool:
    if kind not in _ENDS:
        return True
    with file.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, 2) - _TAIL))
        return _ENDS[kind] in stream.read()

"""Output that never raises (any encoding, closed or full streams), and tables that fit any terminal width."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_WIDEST = 100_000  # columns, more than any table needs
_PLAIN = str.maketrans(dict(zip("–—−×†→≤≥·•‖″′“”‘’", "---x+><>.*|\"'\"\"''", strict=True)) | {"…": "..."})
"""ASCII replacements for streams that cannot encode a character; of the same width, where possible."""


class SteadyStream:
    """A text stream whose writes never raise.

    A character that the stream cannot encode is replaced by its nearest ASCII; text for a closed pipe, a closed file
    or a full disk is dropped.

    Args:
        stream: text stream, such as `sys.stdout`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def write(self, text: str) -> int:
        """Write the text, or drop it if the stream fails."""
        try:
            self._stream.write(encodable(text, self._stream.encoding))
        except (OSError, ValueError) as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream if it works."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._drop(error)

    def isatty(self) -> bool:
        """Return whether the stream is a terminal; False for a closed one."""
        try:
            return self._stream.isatty()
        except (OSError, ValueError):
            return False

    def _drop(self, error: Exception) -> None:
        """Redirect a pipe without a reader to the null device: the interpreter's last flush would fail otherwise."""
        if isinstance(error, BrokenPipeError):
            with suppress(OSError, ValueError):
                _redirect_to_null(self._stream.fileno())


def encodable(text: str, encoding: str | None) -> str:
    """Replace characters that an encoding does not have by their nearest ASCII: `56.6–66.1` becomes `56.6-66.1`."""
    if encoding is None:
        return text
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return "".join(_encodable(character, encoding) for character in text)


def _encodable(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
        return character
    except UnicodeEncodeError:
        plain = unicodedata.normalize("NFKD", character.translate(_PLAIN))
        nearest = plain.encode("ascii", "ignore") or character.encode("ascii", "backslashreplace")
        return nearest.decode("ascii")


@contextmanager
def steady_output() -> Iterator[None]:
    """Make standard output and error streams that never raise, inside the context."""
    _open_missing_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_steady(stream) for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _steady(stream: Any) -> Any:
    if isinstance(stream, SteadyStream):
        return stream
    return SteadyStream(stream or Path(os.devnull).open("w", encoding="utf-8"))  # None if it was closed at the start


def _open_missing_descriptors() -> None:
    """Open the null device for closed descriptors 0, 1 and 2, or prints would go into the next opened file."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _redirect_to_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def show(table: Table, piped_width: int) -> None:
    """Print a table without cutting cells.

    In a narrow terminal it is stacked, with every cell on a line of its own. In a file it is as wide as needed.

    Args:
        table: of any width.
        piped_width: least number of columns where the output is no terminal.
    """
    size = shutil.get_terminal_size()
    console = Console(width=size.columns, height=size.lines)  # with TERM=dumb rich would assume 80 columns
    natural = _width(table, console)
    if not sys.stdout.isatty():
        console = Console(width=max(piped_width, natural))
    elif natural > console.width:
        table = stacked(table)
    console.print(table)


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=_WIDEST), table).maximum


def stacked(table: Table) -> Table:
    """Return a table with the cells of each row below each other: a heading, then a line per column with its name."""
    result = Table(title=table.title, caption=table.caption, show_header=False, box=None, padding=(0, 1, 0, 0))
    result.title_justify, result.caption_justify = table.title_justify, table.caption_justify
    result.add_column(overflow="fold")
    result.add_column(overflow="fold")
    heading, *others = table.columns
    cells = [[*column.cells] for column in others]
    for number, (name, row) in enumerate(zip(heading.cells, table.rows, strict=True)):
        result.add_row(_line(name), "", style="bold")
        for column, values in zip(others, cells, strict=True):
            if str(value := _line(values[number])):
                result.add_row(f"  {_line(column.header)}", value, style=row.style)
    return result


def _line(cell: Any) -> Any:
    """Join the lines of a text cell."""
    if isinstance(cell, Text):
        return Text("  ").join(cell.split("\n"))
    return cell.replace("\n", "  ").strip() if isinstance(cell, str) else cell

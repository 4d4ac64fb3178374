"""Output that cannot end a job, and tables that keep every digit: any width, any encoding, closed or full streams."""

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

_WIDEST = 100_000  # columns: no table has as many
_PLAIN = str.maketrans(dict(zip("–—−×†→≤≥·•‖″′“”‘’", "---x+><>.*|\"'\"\"''", strict=True)) | {"…": "..."})
"""Characters of our tables and sentences for streams that cannot show them; as wide as they are, where possible."""


class SteadyStream:
    """A text stream whose writes never raise.

    A character that the stream's encoding does not have is written as its nearest ASCII; what a closed pipe, a closed
    file or a full disk does not take is dropped.

    Args:
        stream: what is written to, such as `sys.stdout`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            self._stream.write(encodable(text, self._stream.encoding))
        except (OSError, ValueError) as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._drop(error)

    def isatty(self) -> bool:
        """Whether it is a terminal; a closed stream is none."""
        try:
            return self._stream.isatty()
        except (OSError, ValueError):
            return False

    def _drop(self, error: Exception) -> None:
        """Let a pipe without a reader end in the null device, or the interpreter's last flush would fail."""
        if isinstance(error, BrokenPipeError):
            with suppress(OSError, ValueError):
                _into_nothing(self._stream.fileno())


def encodable(text: str, encoding: str | None) -> str:
    """The text, with the nearest ASCII for characters that an encoding does not have: `56.6–66.1` is `56.6-66.1`."""
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
    """Standard output and error that cannot end what runs inside."""
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
    return SteadyStream(stream or Path(os.devnull).open("w", encoding="utf-8"))  # None: it was closed


def _open_missing_descriptors() -> None:
    """Open the null device where a shell closed 0, 1 or 2: else the next file gets the number, and prints go there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _into_nothing(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def show(table: Table, piped_width: int) -> None:
    """Print a table whole.

    A terminal that is too narrow gets it stacked, every cell on a line of its own. A file is as wide as it must be.

    Args:
        table: of any width.
        piped_width: columns where the output is no terminal; more if the table needs them.
    """
    size = shutil.get_terminal_size()
    console = Console(width=size.columns, height=size.lines)  # of TERM=dumb rich itself believes in 80 columns
    natural = _width(table, console)
    if not sys.stdout.isatty():
        console = Console(width=max(piped_width, natural))
    elif natural > console.width:
        table = stacked(table)
    console.print(table)


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=_WIDEST), table).maximum


def stacked(table: Table) -> Table:
    """The same cells below each other: every row is a heading, and a line per column with its name."""
    found = Table(title=table.title, caption=table.caption, show_header=False, box=None, padding=(0, 1, 0, 0))
    found.title_justify, found.caption_justify = table.title_justify, table.caption_justify
    found.add_column(overflow="fold")
    found.add_column(overflow="fold")
    heading, *others = table.columns
    cells = [[*column.cells] for column in others]
    for number, (name, row) in enumerate(zip(heading.cells, table.rows, strict=True)):
        found.add_row(_line(name), "", style="bold")
        for column, values in zip(others, cells, strict=True):
            if str(value := _line(values[number])):
                found.add_row(f"  {_line(column.header)}", value, style=row.style)
    return found


def _line(cell: Any) -> Any:
    """A cell in one line, as far as it is text."""
    if isinstance(cell, Text):
        return Text("  ").join(cell.split("\n"))
    return cell.replace("\n", "  ").strip() if isinstance(cell, str) else cell

"""The pages as a user reads them: their fenced blocks, the files they name, the commands they give."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class Block(NamedTuple):
    """A fenced block, and the file it is, where the line before it names one."""

    file: str | None
    language: str
    text: str


class Command(NamedTuple):
    """One line of a shell block, without its comment."""

    page: str
    text: str

    def __str__(self):
        return f"{self.page}: {self.text}"


def blocks(page):
    """The blocks of a page with a language; the others are terminal output."""
    fenced = re.compile(r"(?:^`(?P<file>[\w./]+)`\n\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
    actual = (Block(*each.group("file", "language", "text")) for each in fenced.finditer(page.read_text()))
    return [block for block in actual if block.language]


def commands(page):
    """The commands of its shell blocks, in order."""
    return [command for block in blocks(page) for command in commands_of(block, page)]


def commands_of(block, page):
    """The lines of a shell block, with continued lines joined."""
    lines = block.text.replace("\\\n", " ").splitlines() if block.language == "sh" else []
    return [Command(str(page.relative_to(ROOT)), line) for line in map(_uncommented, lines) if line]


def write_files(page, folder):
    """The files of a page."""
    for block in blocks(page):
        if block.file:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.text)


def _uncommented(line):
    """As a shell reads it: a word that begins with # ends the line, unless it is quoted."""
    for actual in re.finditer(r"(?:^|\s)#", line):
        try:
            shlex.split(line[: actual.start()])
        except ValueError:  # in the middle of a quotation
            continue
        return line[: actual.start()].strip()
    return line.strip()

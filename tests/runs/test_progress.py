"""The progress display on a terminal while the grid runs."""

import io
import re
import sys

import pytest

from gauntlet.evaluation import Kind, Progress
from gauntlet.runs.progress import Display


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


def test_a_bar_for_every_attack_with_what_is_known_of_it(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    with Display(["linf", "l2"]) as display:
        display.chunk_done(Progress("linf", Kind.ATTACK, 2, 5, 400, 180, 1, 812.3, 40.4))
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    last = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    for part in ("2/5", "45.0 % still correct", "812 images/s", "40 s left", "1 outside their threat model"):
        assert part in last["linf"]
    assert "still correct" not in last["l2"]
    assert "chunk 2 of 5" not in shown  # no plain lines beside the bars


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 160])
def test_a_narrow_terminal_cuts_no_number(monkeypatch, columns):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    with Display(["recoloradv_linf"]) as display:
        display.chunk_done(Progress("recoloradv_linf", Kind.ATTACK, 1234, 5000, 400, 180, 1, 812.3, 40.4))
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "…" not in shown
    for number in ("1234/5000", "45.0 %", "812 ", "40 s"):
        assert number in shown, shown

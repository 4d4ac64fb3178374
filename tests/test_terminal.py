"""Tables keep every digit on any terminal, and no stream can end a job."""

import io
import os
import subprocess
import sys
import textwrap

import pytest
from rich.table import Table

from gauntlet.evaluation import Estimate, ResultTable
from gauntlet.reports.result_table import as_rich
from gauntlet.terminal import SteadyStream, encodable, show, steady_output


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


def run_table():
    rows = []
    for name, value in NUMBERS.items():
        estimate = Estimate(value, value - 0.05, value + 0.05, 1000)
        rows.append([name, "0.03137", estimate.text, estimate.interval])
    return as_rich(ResultTable(["attack", "bound", "accuracy %", "95 % interval"], rows, "Accuracy in %."), "title")


NUMBERS = {"linf": 0.184, "recoloradv_linf_rgb": 0.35, "union": 0.123}


def printed(monkeypatch, table, columns, terminal=True):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")
    show(table, piped_width=120)
    return stream.getvalue()


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 200])
def test_no_terminal_is_too_narrow_for_the_numbers_of_a_run(monkeypatch, columns):
    shown = printed(monkeypatch, run_table(), columns)
    assert "…" not in shown
    for value in NUMBERS.values():
        assert f"{100 * value:.1f}" in shown
        assert f"{100 * (value - 0.05):.1f}–{100 * (value + 0.05):.1f}" in shown
    assert shown.count("0.03137") == len(NUMBERS)
    assert max(map(len, shown.splitlines())) <= columns


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_a_table_of_many_columns_is_stacked_on_a_terminal_and_whole_in_a_file(monkeypatch, columns):
    table = Table(title="many", min_width=76)
    for index in range(30):
        table.add_column(f"column {index}", no_wrap=True)
    table.add_row(*(f"{index}.{index}{index}" for index in range(30)))
    for shown in (printed(monkeypatch, table, columns), printed(monkeypatch, table, columns, terminal=False)):
        assert "…" not in shown
        assert all(f"{index}.{index}{index}" in shown for index in range(30))


def test_a_table_that_fits_is_printed_as_it_is(monkeypatch):
    assert "│" in printed(monkeypatch, run_table(), 80)


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("56.6–66.1 × ‖ρ‖…", "utf-8", "56.6–66.1 × ‖ρ‖…"),
        ("56.6–66.1†", "ascii", "56.6-66.1+"),
        ("Läufe 10²", "ascii", "Laufe 102"),
        ("Läufe – ρ", "latin-1", "Läufe - \\u03c1"),
        ("l\udce4ufe", "utf-8", "l\\udce4ufe"),
        ("ρ", None, "ρ"),
    ],
)
def test_the_nearest_that_an_encoding_has(text, encoding, expected):
    assert encodable(text, encoding) == expected


class Failing(io.StringIO):
    """A stream that takes nothing."""

    encoding = "utf-8"

    def write(self, text):
        raise OSError(28, os.strerror(28))


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [Failing(), closed(), None])
def test_a_stream_that_takes_nothing_ends_nothing(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    with steady_output():
        print("lost", flush=True)
        assert not sys.stdout.isatty()
        show(run_table(), piped_width=80)
    assert sys.stdout is stream


def test_what_a_terminal_prints_stays_what_it_is():
    stream = io.StringIO()
    steady = SteadyStream(stream)
    print("a", "b", file=steady, flush=True)
    assert stream.getvalue() == "a b\n"
    assert steady.getvalue() == "a b\n"


SCRIPT = """
    import sys
    from pathlib import Path
    from gauntlet.terminal import steady_output
    with steady_output():
        for number in range(20_000):
            print("56.6–66.1†", number, flush=True)
        with open(sys.argv[1], "w") as file:
            print("done", file=file)
"""
STREAMS = {
    "a reader that is gone": "| head -1 >/dev/null",
    "a closed output": ">&-",
    "closed streams": "<&- >&- 2>&-",
    "a full disk": ">/dev/full",
}


@pytest.mark.parametrize("streams", STREAMS.values(), ids=STREAMS.keys())
def test_work_goes_on_whatever_the_output_is(tmp_path, streams):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    command = f"set -o pipefail; {sys.executable} {tmp_path}/script.py {tmp_path}/done {streams}"
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(["bash", "-c", command], env=plain, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "done").read_text() == "done\n"

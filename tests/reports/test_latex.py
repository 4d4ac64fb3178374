"""The LaTeX says the same as the table, and LaTeX takes it."""

import dataclasses
import re
import shutil
import subprocess

import pytest

from gauntlet.config.compose import CONF
from gauntlet.reports import latex, make_paper_tables, read_published, read_run
from gauntlet.reports.render.latex import escape


@pytest.fixture(scope="module")
def table(twelve):
    published = {"cifar10": read_published(CONF / "published" / "cifar10.yaml")}
    return make_paper_tables([read_run(folder, "paper") for folder in sorted(twelve.iterdir())], published)[0]


def test_every_line_has_a_cell_per_column_and_every_value_is_there(table):
    text = latex(table)
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(table.columns) + 1}
    rows = dict(zip(table.labels, table.cells, strict=True))
    for label, cells in rows.items():
        (line,) = (line for line in lines if line.strip().startswith(escape(label) + " &"))
        shown = [re.sub(r"\\textbf\{(.*?)\}|\$.*?\$", r"\1", part).strip(" \\") for part in line.split("&")[1:]]
        assert shown == [escape(cells[column].value) for column in table.columns]
    assert text.count(r"\textbf{") == sum(cell.best for cells in rows.values() for cell in cells.values())
    assert text.count(r"\begin{") == text.count(r"\end{") == 2


def test_more_columns_than_fit_are_lines(table):
    more = [f"column {number}" for number in range(15)]
    cells = [dict.fromkeys(more, row["union"]) for row in table.cells]
    text = latex(dataclasses.replace(table, columns=more, cells=cells))
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + len(more)
    assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {1 + len(table.labels)}
    assert all(escape(cell["union"].value) in lines[1] for cell in table.cells)


def test_what_latex_would_read_as_a_command_is_escaped():
    assert escape("at_linf & 50 % #1 {x} $y$ ~ ^ \\") == (
        r"at\_linf \& 50 \% \#1 \{x\} \$y\$ \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )


def test_latex_compiles_it(table, tmp_path):
    compiler = shutil.which("pdflatex") or shutil.which("tectonic")
    if compiler is None:
        pytest.skip("neither pdflatex nor tectonic is installed")
    preamble = (
        r"\documentclass{article}\usepackage[landscape,margin=1cm]{geometry}\usepackage{booktabs}\begin{document}"
    )
    (tmp_path / "page.tex").write_text(f"{preamble}\n{latex(table)}\\end{{document}}\n")
    strict = ["-interaction=nonstopmode", "-halt-on-error"] if compiler.endswith("pdflatex") else []
    done = subprocess.run(
        [compiler, *strict, "page.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "page.pdf").stat().st_size > 10_000

"""Both sides of robustness: every form of a report has the numbers of the records, and says what they are."""

from math import inf
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from gauntlet.errors import UserError
from gauntlet.evaluation import (
    Abstentions,
    AreaUnderCurve,
    AverageCertifiedRadius,
    Flag,
    MedianDistance,
    MedianRadius,
    Optimality,
    Union,
    read_card,
    read_run,
    write_flags,
)
from gauntlet.reports import (
    compare_runs,
    details,
    latex,
    make_paper_table,
    make_paper_tables,
    markdown,
    page,
    run_markdown,
    run_table,
    run_tables,
    terminal_table,
    to_frame,
    write_run_report,
)
from gauntlet.reports.certified import certified_and_attacked, curve, pairs
from gauntlet.reports.curves import curves_markdown
from gauntlet.reports.dashboard import summary
from gauntlet.reports.plots import certified, certified_plots, column_plot, row_plot
from gauntlet.reports.render.spreadsheet import SCHEMA
from gauntlet.reports.result_table import as_rich
from gauntlet.tolerance import TOLERANCE
from tests.reports.folders import Distances, Radii, make_run
from tests.reports.test_plots import described
from tests.reports.test_reports import shown

CLEAN = [True] * 8 + [False] * 2
L2 = [True] * 4 + [False] * 6
FOUND = [inf, 3.0, 2.0, 1.5, 0.9, 0.5, 0.4, 0.3, 0.0, 0.0]
STATED = [2.0, 1.5, 1.0, 0.5, 0.5, 0.25, None, 0.0, -0.5, None]
RELAXED = [4.0, 2.5, 2.0, 1.0, 0.75, 0.5, 0.25, 0.25, -0.5, None]
OF_BOTH = {
    "median distance": MedianDistance("nearest"),
    "median radius": MedianRadius("margin"),
    "area": AreaUnderCurve("nearest", 2.0),
    "ACR": AverageCertifiedRadius("margin"),
    "abstained": Abstentions("margin"),
}


def both(folder, **changed):
    """Ten examples under L2: an attack at 1, a minimum-distance attack, a certificate, and a conditional bound."""
    options = {
        "distances": {"nearest": Distances(FOUND, bound=0.5)},
        "radii": {
            "margin": Radii(STATED, bound=0.5),
            "relaxed": Radii(RELAXED, bound=0.5, assumption="the optimiser converged"),
        },
        "aggregates": OF_BOTH,
    }
    return read_run(make_run(folder, {"clean": CLEAN, "l2": L2}, **(options | changed)), "paper")


@pytest.fixture
def run(folder):
    return both(folder)


def flagged(run, *names):
    """The same run with a raised flag on some entries."""
    write_flags(run.folder, "paper", read_card(run.folder).checkpoint, [Flag("x", name, 1, 0, "no") for name in names])
    return read_run(run.folder, "paper")


def rows_of(table):
    """Of Markdown, its cells as a list of dictionaries."""
    head, _, *lines = (
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table if line.startswith("|")
    )
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_the_two_sides_at_every_bound_that_an_entry_has(run):
    """At 0.5 the minimum distance alone tells, and a distance right at the bound counts as broken; at 1 both do."""
    at_half, at_one = pairs(run)
    assert (at_half.certificate, at_half.at, at_half.certified.value, at_half.attacked.value) == (
        "margin", "0.5 L2", 0.5, 0.5
    )  # fmt: skip
    assert (at_one.at, at_one.certified.value, at_one.attacked.value) == ("1 L2", 0.3, 0.4)
    table = certified_and_attacked({"run": run})
    assert table.head == ["certificate", "at", "certified %", "attacked %", "gap, points"]
    assert table.rows == [
        ["margin, l2", "0.5 L2", "50.0 (23.7–76.3)", "50.0 (23.7–76.3)", "0.0"],
        ["margin, l2", "1 L2", "30.0 (10.8–60.3)", "40.0 (16.8–68.7)", "10.0"],
    ]


def test_a_certificate_without_attacks_and_attacks_at_other_bounds_alone(folder):
    alone = both(folder, distances={}, radii={"margin": Radii(STATED, "linf", 0.5)}, aggregates={})
    assert certified_and_attacked({"run": alone}).rows == [["margin, linf", "0.5 L∞", "50.0 (23.7–76.3)", "–", "–"]]
    beside = both(folder / "beside", distances={}, radii={"margin": Radii(STATED, bound=0.5)}, aggregates={})
    rows = certified_and_attacked({"run": beside}).rows
    assert [(row[1], row[3], row[4]) for row in rows] == [("0.5 L2", "–", "–"), ("1 L2", "40.0 (16.8–68.7)", "10.0")]


def test_there_is_no_such_table_without_a_certificate_or_of_an_unfinished_run(run, folder):
    none = both(folder / "none", radii={}, aggregates={})
    assert certified_and_attacked({"run": none}) is None
    conditional = {"relaxed": Radii(RELAXED, assumption="the optimiser converged")}
    assert certified_and_attacked({"run": both(folder / "relaxed", radii=conditional, aggregates={})}) is None
    (file,) = (run.folder / run.plan.entries["margin"].folder).glob("*.parquet")
    pl.read_parquet(file).head(5).write_parquet(file)
    unfinished = read_run(run.folder, "paper")
    assert certified_and_attacked({"run": unfinished}) is None
    assert certified_plots(unfinished, "a") == []


def test_a_union_says_at_which_bound_a_minimum_distance_counts(folder):
    counted = both(folder, aggregates={"union": Union(["clean", "l2", "nearest"], {"nearest": 1.5})})
    assert counted.cells["union"].value == 0.3
    for form in (run_markdown(counted), " ".join(shown(run_table(counted, "a title")).split())):
        assert "Union of clean, l2, nearest at 1.5 L2." in form


def test_runs_are_not_compared_in_a_column_at_other_bounds(folder):
    """Records of a minimum distance and of a certificate are the same at every bound; the columns are not."""
    one = both(folder / "one")
    assert compare_runs(one, both(folder / "again"))["nearest"].difference == 0
    other = both(folder / "other", distances={"nearest": Distances(FOUND, bound=1.0)})
    with pytest.raises(UserError, match=r"nearest: nearest is at 0\.5 in \S+one and at 1 in \S+other: evaluate both"):
        compare_runs(one, other)
    unions = [
        both(folder / f"{bound}", aggregates={"union": Union(["clean", "nearest"], {"nearest": bound})})
        for bound in (0.5, 1.5)
    ]
    with pytest.raises(UserError, match=r"union: nearest is at 0\.5 in"):
        compare_runs(*unions)


def test_the_run_s_table_has_units_and_the_right_values(run):
    lines = shown(run_table(run, "title")).splitlines()
    cells = [[part.strip() for part in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert cells == [
        ["clean", "", "80.0", "49.0–94.3"],
        ["l2", "1", "40.0", "16.8–68.7"],
        ["nearest", "at 0.5 L2", "50.0", "23.7–76.3"],
        ["margin", "certified at 0.5 L2", "50.0", "23.7–76.3"],
        ["relaxed", "conditional at 0.5 L2", "60.0", "31.3–83.2"],
        ["union", "", "40.0", "16.8–68.7"],
        ["unseen mean", "", "40.0", "16.8–68.7"],
        ["median distance", "", "0.5 L2", "0–3"],
        ["median radius", "", "0.25 L2", "0–1.5"],
        ["area", "", cells[9][2], cells[9][3]],
        ["ACR", "", cells[10][2], cells[10][3]],
        ["abstained", "", "20.0", "5.7–51.0"],
    ]
    assert cells[9][2] == f"{(2 + 2 + 2 + 1.5 + 0.9 + 0.5 + 0.4 + 0.3) / 10:.3g} L2"
    assert cells[10][2] == f"{(2 + 1.5 + 1 + 0.5 + 0.5 + 0.25) / 10:.3g} L2"


def test_infinite_distances_and_radii_are_values_like_others(folder):
    far = both(
        folder, distances={"nearest": Distances([inf] * 7 + [1.0, 0.0, 0.0])},
        radii={"margin": Radii([inf] * 7 + [1.0, -1.0, -1.0])},
    )  # fmt: skip
    assert (far.cells["median distance"].text, far.cells["median radius"].text) == ("∞", "∞")
    assert far.cells["median distance"].interval == "0–∞"
    assert far.cells["ACR"] is None
    assert "∞ L2" in shown(run_table(far, "title"))
    table = make_paper_table([far], None)
    assert r"$\infty$" in latex(table)
    assert "| ∞ (0–∞) |" in markdown(table)
    frame = to_frame([table])
    assert frame.filter(pl.col("column") == "median distance")["value"].to_list() == [inf]
    assert frame.equals(pl.read_csv(frame.write_csv().encode(), schema=SCHEMA))
    assert summary(far)["paper/median_distance"] == inf
    assert "median distance in L2" in described(column_plot(table, "median distance", "a"))
    assert "∞" in page([table], {})


def test_a_conditional_bound_is_named_with_its_assumption_and_never_called_certified(run):
    """Of all words about it in every form, none says certified but to deny it."""
    table = make_paper_table([run], None)
    forms = {
        "terminal": shown(run_table(run, "title")),
        "markdown": run_markdown(run),
        "page": page([table], {}),
        "latex": latex(table),
        "paper table": markdown(table),
    }
    for name, text in forms.items():
        plain = " ".join(text.split())
        assert "a conditional bound, which assumes that the optimiser converged; not certified." in plain, name
        assert "conditional at 0.5 L2" in plain, name
        assert "relaxed: certified" not in plain, name
        assert "relaxed certified" not in plain, name
    assert "relaxed" not in str(certified_and_attacked({"run": run}))
    kinds = dict(to_frame([table]).filter(pl.col("column") == "relaxed").select("column", "kind").iter_rows())
    assert kinds == {"relaxed": "conditional_bound"}


def test_radii_of_a_conditional_bound_are_no_certified_radii(folder):
    of = {"median radius": MedianRadius("relaxed"), "mean radius": AverageCertifiedRadius("relaxed")}
    text = " ".join(shown(run_table(both(folder, aggregates=of), "title")).split())
    assert "median radius: median radius of relaxed" in text
    assert "mean radius: mean radius of relaxed" in text
    assert "certified radius" not in text


def test_daggers_are_on_the_side_that_a_flag_touches_and_on_what_is_made_of_it(run):
    marked = flagged(run, "margin")
    at_half, at_one = certified_and_attacked({"run": marked}).rows
    assert ("†" in at_half[2], "†" in at_half[3]) == ("†" in at_one[2], "†" in at_one[3]) == (True, False)
    assert {name for name in marked.cells if marked.mark(name)} == {"margin", "median radius", "ACR", "abstained"}
    at_half, at_one = certified_and_attacked({"run": flagged(run, "l2")}).rows
    assert ("†" in at_half[3], "†" in at_one[3]) == (False, True)  # at 0.5 it tells nothing
    frame = to_frame([make_paper_table([flagged(run, "l2")], None)])
    sides = frame.filter(pl.col("kind").is_in(["certified", "attacked"]))
    assert sides.filter("flagged").select("kind", "bound").rows() == [("attacked", 1.0)]


def test_markdown_latex_and_html_have_both_sides_of_every_run(run, folder):
    other = both(folder / "other", name="at_l2/small_resnet/seed0")
    table = make_paper_table([run, other], None)
    expected = [["normal", *row] for row in certified_and_attacked({"x": run}).rows]
    expected += [["at_l2", *row[1:]] for row in expected]
    _, second = markdown(table).split("| run | certificate |")
    rows = rows_of(f"| run | certificate |{second}".splitlines())
    assert [list(row.values()) for row in rows] == expected
    assert list(rows[0]) == ["run", "certificate", "at", "certified %", "attacked %", "gap, points"]
    tables = latex(table).split(r"\begin{table}")
    assert len(tables) == 3
    body = tables[2].split(r"\midrule")[1].split(r"\bottomrule")[0]
    cells = [[cell.strip(" \\") for cell in line.split("&")] for line in body.splitlines() if "&" in line]
    latexed = [
        [cell.replace("–", "--").replace("∞", r"$\infty$").replace("_", r"\_") for cell in row] for row in expected
    ]
    assert cells == latexed
    text = page([table], {}).replace("<wbr>", "")
    element = ElementTree.fromstring(text[text.index('<table class="further">') :].split("</table>")[0] + "</table>")
    body = [["".join(cell.itertext()) for cell in row] for row in element.find("tbody")]
    assert body == expected
    assert shown(as_rich(table.more["certified and attacked accuracy"], "sides")).count("margin, l2") == 4


def test_the_csv_has_both_sides_and_the_dashboard_too(run):
    table = make_paper_table([run], None)
    sides = to_frame([table]).filter(pl.col("kind").is_in(["certified", "attacked"]))
    assert sides.select("column", "threat_model", "kind", "bound", "unit", "value", "examples").rows() == [
        ("margin", "l2", "certified", 0.5, "%", 0.5, 10),
        ("margin", "l2", "attacked", 0.5, "%", 0.5, 10),
        ("margin", "l2", "certified", 1.0, "%", 0.3, 10),
        ("margin", "l2", "attacked", 1.0, "%", 0.4, 10),
    ]
    values = summary(run)
    assert values["paper/margin_certified_at_1"] == 0.3
    assert values["paper/margin_attacked_at_1"] == 0.4
    assert values["paper/margin_attacked_at_0.5_low"] == pairs(run)[0].attacked.low
    assert values["paper/abstained"] == 0.2
    assert values["paper/median_distance"] == 0.5
    units = dict(to_frame([table]).filter(pl.col("kind") == "aggregate").select("column", "unit").iter_rows())
    assert units == {
        "union": "%", "unseen mean": "%", "median distance": "L2", "median radius": "L2", "area": "L2", "ACR": "L2",
        "abstained": "%",
    }  # fmt: skip


def test_headers_have_units_in_markdown_latex_and_html(run):
    table = make_paper_table([run], None)
    (row,) = rows_of(run_markdown(run).splitlines())
    heads = ["median distance L2", "ACR L2", "l2 1", "nearest at 0.5 L2", "margin certified at 0.5 L2"]
    assert set(heads) <= row.keys()
    assert row["median distance L2"] == "0.5 (0–3)"
    assert row["margin certified at 0.5 L2"] == "50.0 (23.7–76.3)"
    assert set(heads) <= rows_of(markdown(table).splitlines()[:5])[0].keys()
    text = page([table], {})
    assert "median distance<br><small>L2</small>" in text
    assert "margin<br><small>certified at 0.5 L2</small>" in text
    names, bounds = latex(table).splitlines()[6:8]
    under = dict(zip(*([cell.strip(" \\") for cell in line.split("&")] for line in (names, bounds)), strict=True))
    assert under["ACR"] == r"{\scriptsize L2}"
    assert under["relaxed"] == r"{\scriptsize conditional at 0.5 L2}"
    assert "L2" in shown(terminal_table(table))


def test_the_report_of_a_run_and_a_curve_over_shares_have_them_too(run):
    write_run_report(run.folder)
    text = (run.folder / "report.md").read_text()
    assert "| margin, l2 | 1 L2 | 30.0 (10.8–60.3) | 40.0 (16.8–68.7) | 10.0 |" in text
    assert "Bounds: l2 1 L2, nearest 0.5 L2, margin 0.5 L2, relaxed 0.5 L2." in text
    assert details(run) in text
    rows = {row["attack"]: row["× 1"] for row in rows_of(curves_markdown({1.0: run}).splitlines())}
    assert rows["median distance, L2"] == "0.5 (0–3)"
    assert rows["margin"] == "50.0 (23.7–76.3)"


def test_columns_in_a_unit_are_drawn_over_this_unit(run, monkeypatch):
    """Not over percent: 0.5 L2 is no 50 %."""
    from gauntlet.reports.plots import accuracies

    figures = captured(monkeypatch, accuracies)
    table = make_paper_table([run], None)
    plot = column_plot(table, "median distance", "a")
    assert (plot.title, plot.caption) == ("median distance, L2", "median distance in L2, with 95 % intervals.")
    assert "normal/small_resnet/seed0 0.5 L2 (0–3)" in described(plot)
    (axes,) = figures[-1].axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.0, 3.0], [0.5]]
    assert axes.get_xlim()[1] == pytest.approx(1.03 * 1.1 * 3)
    assert column_plot(table, "margin", "a").title == "margin, certified at 0.5 L2"
    text = described(row_plot(table, 0, "a"))
    assert "margin, certified at 0.5 L2 50.0 %" in text
    assert "abstained 20.0 %" in text
    assert "ACR" not in text
    assert page([table], {}).count("in L2, with 95 % intervals") == 4
    assert "--share:0.500" in page([table], {})  # of shares, the cells are as dark as these are large


def test_a_number_in_a_drawing_is_whole(run):
    table = make_paper_table([both(run.folder / "x", distances={"nearest": Distances([0.4567] * 8 + [0, 0])})], None)
    assert ">0.457<" in column_plot(table, "median distance", "a").svg


def captured(monkeypatch, module):
    """The figures that a module turns into SVG."""
    figures, as_svg = [], module.as_svg

    def keep(figure, name, description):
        figures.append(figure)
        return as_svg(figure, name, description)

    monkeypatch.setattr(module, "as_svg", keep)
    return figures


def drawn(figures):
    """By label: what the last drawing shows at a bound, in [0, 1], right after it."""
    lines = {line.get_label(): line for line in figures[-1].axes[0].lines}
    return {label: _reading(line) for label, line in lines.items()}


def _reading(line):
    across, up = (np.asarray(values, float) for values in line.get_data())
    assert line.get_drawstyle() == "steps-post"
    return lambda bound: up[np.searchsorted(across, bound, side="right") - 1] / 100


def many(folder, count, seed=0):
    """A run of many examples with distances and radii that do not repeat; some radii are infinite, some abstain."""
    noise = np.random.default_rng(seed)
    clean = noise.random(count) < 0.9
    true = noise.gamma(3, 0.4, count)
    found = np.where(clean, np.where(noise.random(count) < 0.05, inf, 1.2 * true), 0.0)
    radii = [
        None if luck < 0.1 else inf if luck < 0.12 and reach == inf else float(half) * (1 if right else -1)
        for luck, half, right, reach in zip(noise.random(count), true / 2, clean, found, strict=True)
    ]
    distances, stated = {"nearest": Distances(found.tolist())}, {"margin": Radii(radii)}
    made = make_run(folder, {"clean": clean.tolist()}, distances=distances, radii=stated)
    return read_run(made, "paper")


def truth(run, name, bound):
    """The share of examples that records leave correct within a bound, row by row."""
    rows = list(run.records[name].iter_rows(named=True))
    if name == "margin":
        return sum(row["correct"] and not row["abstained"] and row["radius"] >= bound for row in rows) / len(rows)
    return sum(row["distance"] > bound * (1 + TOLERANCE) for row in rows) / len(rows)


@pytest.mark.parametrize(("count", "allowed"), [(60, 0.0), (900, 0.02)])
def test_the_certified_curve_is_never_above_the_records_and_the_attacked_never_below(
    folder, monkeypatch, count, allowed
):
    """With few steps they are the records' own; with many some are left out."""
    run = many(folder, count)
    figures = captured(monkeypatch, certified)
    certified_plots(run, "a")
    lines = drawn(figures)
    assert lines.keys() == {"nearest", "margin"}
    off = {"nearest": [], "margin": []}
    values = np.concatenate([run.records["nearest"]["distance"], run.records["margin"]["radius"]])
    values = values[np.isfinite(values)]
    around = np.concatenate([values, np.nextafter(values, 9), np.nextafter(values, 0), np.linspace(0, 9, 500)])
    for bound in around[around < values.max()]:
        for name, sign in (("margin", -1), ("nearest", 1)):
            shift = sign * (lines[name](bound) - truth(run, name, bound))
            assert shift >= -1e-12, (name, bound)
            if np.abs(values - bound).min() > 2 * TOLERANCE * bound:  # at a step a curve has both values
                off[name].append(shift)
    assert min(map(len, off.values())) > 150
    assert max(map(max, off.values())) <= allowed + 1e-12
    beyond = 10 * values.max()
    for name in off:
        assert curve(run, name).shares[-1] == pytest.approx(truth(run, name, beyond))


def test_the_gap_is_shaded_between_the_two_curves_and_ends_where_they_meet(run, monkeypatch):
    figures = captured(monkeypatch, certified)
    (plot,) = certified_plots(run, "a")
    (point,) = (line for line in figures[-1].axes[0].lines if line.get_marker() == "o")
    assert (point.get_label(), *point.get_data()) == ("l2", [1.0], [40.0])
    (shade,) = figures[-1].axes[0].collections
    for bound in (0.1, 0.35, 0.45, 0.7, 1.2, 1.7, 2.5, 3.1):
        low, high = truth(run, "margin", bound), truth(run, "nearest", bound)
        inside = shade.get_paths()[0].contains_points([(bound, 100 * (low + high) / 2)])
        assert inside[0] == (high > low), bound
        assert not shade.get_paths()[0].contains_points([(bound, 100 * high + 1)])[0]
        assert not shade.get_paths()[0].contains_points([(bound, 100 * low - 1)])[0]
    assert plot.title == "l2: accuracy against the bound"
    assert "The truth lies in the shaded gap." in plot.caption
    assert "relaxed (dashed) assumes that the optimiser converged" in plot.caption
    assert "l2 40.0 % at 1; nearest 50.0 % at 0.5; margin 50.0 % at 0.5" in described(plot)
    labels = [text.get_text() for text in figures[-1].legends[0].get_texts()]
    assert labels == ["l2", "nearest", "margin", "relaxed, conditional"]


def test_one_side_alone_is_drawn_without_a_gap(folder, monkeypatch):
    figures = captured(monkeypatch, certified)
    (plot,) = certified_plots(both(folder, radii={}, aggregates={}), "a")
    assert "gap" not in plot.caption
    assert not figures[-1].axes[0].collections
    assert certified_plots(both(folder / "none", radii={}, distances={}, aggregates={}), "a") == []


def test_the_page_has_the_plot_and_every_run_its_own(run, folder):
    other = both(folder / "other", name="at_l2/small_resnet/seed0")
    text = page(make_paper_tables([run, other], {}), {})
    assert text.count("l2: accuracy against the bound") == 2
    ids = [part.split('"')[0] for part in text.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_an_aggregate_with_a_table_of_its_own_hides_no_other_column(folder):
    """Corruptions beside an attack: the errors first, then what they do not show."""
    from gauntlet.corruptions.aggregate import CorruptionError
    from tests.reports.folders import write_plan

    run = both(folder, radii={}, aggregates={})
    clean = {"fog": ["clean"] * 5}
    write_plan(
        folder, "paper", run.card, dict(run.plan.entries), {"errors": CorruptionError(clean, {"fog": "generated"})}
    )
    mixed = read_run(folder, "paper")
    first, second = map(shown, run_tables(mixed, "title"))
    assert "mean of 1" in first
    assert "nearest" in second
    assert " ".join((first + second).split()).count("1 of 15 types of corruption") == 1
    page = run_markdown(mixed)
    assert page.count("1 of 15 types of corruption") == 1
    assert "nearest at 0.5 L2" in page


def test_a_mean_over_runs_is_stated_below_a_table_of_several(tmp_path):
    """Global optimality: the mean of local optimality over classifiers; of `far` (2/3 + 1) / 2."""
    runs = []
    for seed, far in enumerate(([0.0, 1.0, 2.0, 3.0], [0.0, 2.0, 2.0, 3.0])):
        distances = {"near": Distances([0.0, 1.0, 2.0, 3.0]), "far": Distances(far)}
        aggregates = {"optimality": Optimality(["near", "far"])}
        folder = make_run(
            tmp_path / str(seed),
            {"clean": [False, True, True, True]},
            distances=distances,
            aggregates=aggregates,
            name=f"normal/small_resnet/seed{seed}",
        )
        runs.append(read_run(folder, "paper"))
    text = markdown(make_paper_table(runs, None))
    assert "global optimality (mean over 2 runs): optimality near 100.0 %, optimality far 83.3 %." in text
    assert "mean over" not in markdown(make_paper_table(runs[:1], None))

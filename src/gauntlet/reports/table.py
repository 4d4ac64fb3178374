"""Runs as rows, attacks as columns, a 95 % interval in every cell; made from run cards and outcomes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from gauntlet.errors import UserError
from gauntlet.evaluation.flags import Flag, read_flags
from gauntlet.evaluation.measures import Accuracy, accuracy, mean_accuracy, union_accuracy, unseen
from gauntlet.evaluation.outcomes import read_outcomes, with_fallen
from gauntlet.files import read_json
from gauntlet.reports.corrupted import MEAN, Corruptions, by_type_flags, corrupted, said_of_corruptions


@dataclass(frozen=True)
class Row:
    """One run under one suite."""

    name: str
    cells: Mapping[str, Accuracy | None]
    """By column; None where a column means nothing for this run."""
    bounds: Mapping[str, float]
    """Of every attack, in its threat model's own unit."""
    union: Sequence[str]
    """The attacks that form it."""
    complete: bool
    """Whether every attack has all the examples it was asked for."""
    violations: int
    """Records whose image was not inside its threat model."""
    flags: Sequence[Flag] | None = None
    """What the sanity checks measured; None where they have not been made."""
    unseen: Sequence[str] = ()
    """The attacks of the unseen mean."""
    survivors: Sequence[str] = ()
    """Attacks that were run only on examples still standing, and have no accuracy of their own."""
    corrupted: Corruptions | None = None
    """Common corruptions, of which a type has one cell."""

    def mark(self, column: str) -> str:
        """A dagger where a raised flag touches the cell; an aggregate has the daggers of its attacks."""
        members = self.members(column)
        return MARK if any(flag.attack is None or flag.attack in members for flag in self.raised) else ""

    def members(self, column: str) -> Sequence[str]:
        """The columns that an aggregate is made of; of any other column itself."""
        types = [*self.corrupted.means] if self.corrupted else []
        return {"union": self.union, "unseen mean": self.unseen, MEAN: types}.get(column, [column])

    @property
    def raised(self) -> list[Flag]:
        """The flags that mark a cell."""
        return [flag for flag in self.flags or () if flag.raised]


MARK = "†"
AGGREGATES = ("union", "unseen mean")


def read_row(folder: Path, suite: str) -> Row:
    """The row of a run folder.

    Raises:
        UserError: it is no run folder, or was not evaluated under the suite.
    """
    card, plan = read_card(folder), read_plan(folder, suite)
    if plan["checkpoint"] != card["checkpoint"]:
        raise UserError(
            f"{folder}: suite {suite} was measured on other weights than those there now:"
            f" run evaluate.py checkpoint={folder} attack_suite={suite}"
        )
    records = {name: read_outcomes(folder / entry["folder"]) for name, entry in plan["attacks"].items()}
    survivors = [name for name, entry in plan["attacks"].items() if entry.get("survivors_of")]
    outcomes = of_everybody(records, plan)
    if not all(len(frame) for frame in outcomes.values()):
        empty = next(name for name, frame in outcomes.items() if not len(frame))
        raise UserError(f"{folder} has no outcomes of {empty} yet: finish it with evaluate.py checkpoint={folder}")
    complete = all(len(frame) == plan["examples"] for frame in outcomes.values())
    threats = {name: entry["threat_model"] for name, entry in plan["attacks"].items() if "corruption" not in entry}
    cells: dict[str, Accuracy | None] = {
        name: None if name in survivors else accuracy(outcomes[name]) for name in threats
    }
    corruptions = corrupted(folder, suite, plan, records) if complete else None
    cells |= corruptions.cells if corruptions else {}
    others = unseen(threats, card["trained_on"] or []) if plan["union"] else []
    if plan["union"]:
        cells["union"] = cells["unseen mean"] = None
    if plan["union"] and complete:
        measurable = others and not set(others) & set(survivors)
        cells["union"] = union_accuracy([outcomes[name] for name in plan["union"]])
        cells["unseen mean"] = mean_accuracy([outcomes[name] for name in others]) if measurable else None
    violations = sum(int((~frame["inside"]).sum()) for frame in records.values())
    bounds = {name: float(plan["attacks"][name]["bound"]) for name in threats}
    flags = by_type_flags(read_flags(folder, suite, card["checkpoint"]), plan)
    return Row(card["name"], cells, bounds, plan["union"], complete, violations, flags, others, survivors, corruptions)


def of_everybody(records: Mapping[str, pl.DataFrame], plan: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """By attack; where one ran on survivors, with those who had fallen before.

    Args:
        records: by attack, as measured.
        plan: of the suite, as `read_plan` gives it.
    """
    earlier = {name: plan["attacks"][name].get("survivors_of", []) for name in records}
    return {
        name: with_fallen(frame, [records[other] for other in earlier[name]]) if earlier[name] else frame
        for name, frame in records.items()
    }


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a run: its name, what it was trained on, which weights and data."""
    file = folder / "card.json"
    if not file.exists():
        raise UserError(f"{folder} has no card.json: give run folders that train.py or evaluate.py made")
    card: dict[str, Any] = read_json(file)
    return card


def read_plan(folder: Path, suite: str) -> dict[str, Any]:
    """What the suite was in a run: its attacks with their folders, the union, how many examples."""
    file = folder / "suites" / f"{suite}.json"
    if not file.exists():
        known = sorted(path.stem for path in file.parent.glob("*.json")) or "none"
        raise UserError(
            f"{folder} was not evaluated under suite {suite} (but under {known}):"
            f" run evaluate.py checkpoint={folder} attack_suite={suite}"
        )
    plan: dict[str, Any] = read_json(file)
    return plan


def cell(value: Accuracy | None, mark: str = "") -> str:
    """`61.5† (56.6–66.1)`, in percent; a dash where there is nothing to say."""
    return "–" if value is None else f"{100 * value.value:.1f}{mark} ({_interval(value)})"


def _interval(value: Accuracy) -> str:
    return f"{100 * value.low:.1f}–{100 * value.high:.1f}"


def said_of_training(card: Mapping[str, Any]) -> str:
    """What a classifier was trained on, as far as anybody said."""
    if card["trained_on"] is None:
        return "not stated (trained_on=[…] says it); the unseen mean leaves nothing out"
    return ", ".join(card["trained_on"]) or "clean images"


def columns(rows: Sequence[Row]) -> list[str]:
    """All columns of all rows: the aggregates as in the paper's tables, then attacks in order of first appearance."""
    found = dict.fromkeys(name for row in rows for name in row.cells)
    return [*(name for name in AGGREGATES if name in found), *(name for name in found if name not in AGGREGATES)]


def run_table(row: Row, title: str) -> Table:
    """One run for a terminal: an attack per line."""
    table = Table(title=title, title_justify="left", caption=caption([row]), caption_justify="left")
    for name in ("attack", "bound", "accuracy %", "95 % interval"):
        table.add_column(name, justify="left" if name == "attack" else "right", no_wrap=True)
    for name, value in row.cells.items():
        bound = row.bounds.get(name)
        shown = f"{bound:.4g}" if bound else ""
        if name in row.survivors:
            cells = ("survivors", "")
        elif value is None:
            cells = ("–", "")
        else:
            cells = (f"{100 * value.value:.1f}{row.mark(name)}", _interval(value))
        if name == "union":
            table.add_section()
        table.add_row(name, shown, *cells, style="bold" if name == "union" else "")
    return table


def markdown_table(rows: Sequence[Row]) -> str:
    """For a page."""
    names = columns(rows)
    lines = [["run", *names], ["---", *("--:" for _ in names)]]
    lines += [[row.name, *(cell(row.cells.get(name), row.mark(name)) for name in names)] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def caption(rows: Sequence[Row]) -> str:
    """What the numbers are, and what a reader must know before trusting them."""
    counts = sorted({value.examples for row in rows for value in row.cells.values() if value})
    said = [f"Accuracy in %, 95 % Wilson intervals, {' / '.join(map(str, counts))} test examples."]
    said += [f"Union of {', '.join(union)}." for union in sorted({tuple(row.union) for row in rows}) if union]
    said += [f"{row.name}: unfinished{', no union yet' if row.union else ''}." for row in rows if not row.complete]
    said += [f"{row.name}: {', '.join(row.survivors)} ran on survivors only." for row in rows if row.survivors]
    said += [f"{row.name}: {row.violations} records outside their threat model." for row in rows if row.violations]
    said += [f"{row.name}: no sanity checks on record." for row in rows if row.flags is None]
    said += [f"{row.name}: {said_of_corruptions(row.corrupted)}" for row in rows if row.corrupted]
    return "  \n".join([" ".join(said), *(line for row in rows for line in flag_lines(row))])


def flag_lines(row: Row) -> list[str]:
    """One line per kind of raised flag: whose cells it marks, what was measured, and what that means."""
    lines = []
    for (name, why), flags in groupby(sorted(row.raised, key=_kind), key=_kind):
        found = [(flag.attack or "all", f"{100 * flag.value:.3g} %", f"{100 * flag.threshold:.3g} %") for flag in flags]
        values = ", ".join(f"{attack} {value}" for attack, value, _ in found)
        lines.append(f"{MARK} {row.name}, {name}: {values}; expected at most {found[0][2]}: {why}.")
    return lines


def _kind(flag: Flag) -> tuple[str, str]:
    return flag.name, flag.explanation

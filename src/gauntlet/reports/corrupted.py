"""Common corruptions in reports: a line per type, its severities, errors, and errors relative to a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from gauntlet.corruptions import SEVERITIES, TYPES
from gauntlet.evaluation.bootstrap import Mean
from gauntlet.evaluation.corruption_errors import Errors, Relative, relative_to, wrong
from gauntlet.evaluation.flags import Flag
from gauntlet.evaluation.measures import Accuracy, mean_accuracy
from gauntlet.files import read_json

MEAN = "corruption mean"


@dataclass(frozen=True)
class Corruptions:
    """What corruptions did to one run."""

    severities: Mapping[str, Sequence[Accuracy]]
    """Accuracies by type, severity 1 first; of all examples, whatever the answer to the clean image was."""
    means: Mapping[str, Accuracy]
    """By type, over the severities."""
    mean: Accuracy
    """Over all of them."""
    clean: Accuracy | None
    """Of the clean images, where the suite has them."""
    sources: Mapping[str, str]
    """By type: `generated`, or the name of the files."""
    relative: Relative | None
    """To a baseline, if there is one."""

    @property
    def cells(self) -> dict[str, Accuracy | None]:
        """Columns of a table of many runs."""
        return {**self.means, MEAN: self.mean}


def corrupted(
    folder: Path, suite: str, plan: Mapping[str, Any], records: Mapping[str, pl.DataFrame]
) -> Corruptions | None:
    """Of finished records; None where the suite has no corruptions.

    Args:
        folder: of the run, for its baseline.
        suite: its name.
        plan: what it was.
        records: by attack.
    """
    types = by_type(plan)
    if not types:
        return None
    frames = {kind: [records[name] for name in names] for kind, names in types.items()}
    right = {kind: [_right(frame) for frame in cells] for kind, cells in frames.items()}
    file = baseline_file(folder, suite)
    baseline = Errors(**read_json(file)) if file.exists() and "clean" in records else None
    return Corruptions(
        {kind: [mean_accuracy([cell]) for cell in cells] for kind, cells in right.items()},
        {kind: mean_accuracy(cells) for kind, cells in right.items()},
        mean_accuracy([cell for cells in right.values() for cell in cells]),
        mean_accuracy([_right(records["clean"])]) if "clean" in records else None,
        {kind: plan["attacks"][names[0]]["corruption"]["source"] for kind, names in types.items()},
        relative_to(baseline, records["clean"], frames) if baseline else None,
    )


def by_type(plan: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of a suite's corruptions by type, severity 1 first."""
    found: dict[str, dict[int, str]] = {}
    for name, entry in plan["attacks"].items():
        if place := entry.get("corruption"):
            found.setdefault(place["type"], {})[place["severity"]] = name
    return {kind: [names[severity] for severity in sorted(names)] for kind, names in found.items()}


def by_type_flags(flags: Sequence[Flag] | None, plan: Mapping[str, Any]) -> list[Flag] | None:
    """Flags with those of a corruption's severities under its type: of each check the one that measured most."""
    if flags is None:
        return None
    types = {name: kind for kind, names in by_type(plan).items() for name in names}
    found: dict[tuple[str, str | None], Flag] = {}
    for flag in (replace(flag, attack=types.get(flag.attack or "", flag.attack)) for flag in flags):
        known = found.get((flag.name, flag.attack))
        if known is None or flag.value > known.value:
            found[flag.name, flag.attack] = flag
    return list(found.values())


def baseline_file(folder: Path, suite: str) -> Path:
    """Where a run keeps what its errors are relative to."""
    return folder / "suites" / "baseline" / f"{suite}.json"


def _right(records: pl.DataFrame) -> pl.DataFrame:
    """`example_id` and `robust`, which here is to be right, for measures that ask for it."""
    return records.select("example_id", robust=~wrong(records))


def corruption_table(found: Corruptions, title: str, notes: Sequence[str]) -> Table:
    """For a terminal: errors in percent, a type per line; below it what they are, and the notes."""
    caption = "\n".join([_said_of_errors(found), *notes])
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for i, name in enumerate(_head(found)):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    *types, mean = _lines(found)
    for line in types:
        table.add_row(*line)
    table.add_section()
    table.add_row(*mean, style="bold")
    return table


def corruption_markdown(found: Corruptions, notes: Sequence[str]) -> str:
    """The same for a page."""
    head = _head(found)
    lines = [head, ["---", *("--:" for _ in head[1:])], *_lines(found)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return "  \n".join([f"{table}\n{_said_of_errors(found)}", *notes]) + "\n"


def _head(found: Corruptions) -> list[str]:
    return ["error %", *map(str, SEVERITIES), "mean", *(["CE", "relative CE"] if found.relative else [])]


def _lines(found: Corruptions) -> Iterator[list[str]]:
    """The clean images, then a line per type; the last is their mean, with mCE and relative mCE."""
    relative = found.relative
    if found.clean:
        yield ["clean", *[""] * len(SEVERITIES), _with_interval(found.clean), *[""] * (2 if relative else 0)]
    for kind, cells in found.severities.items():
        ratios = [relative.errors.get(kind), relative.relative.get(kind)] if relative else []
        yield [kind, *map(_error, cells), _with_interval(found.means[kind]), *map(_percent, ratios)]
    columns = zip(*found.severities.values(), strict=True)
    means = [100 * sum(1 - cell.value for cell in column) / len(column) for column in columns]
    ends = [_mean(one) for one in (relative.mce, relative.relative_mce)] if relative else []
    yield [f"mean of {len(found.means)}", *(f"{mean:.1f}" for mean in means), _with_interval(found.mean), *ends]


def _error(accuracy: Accuracy) -> str:
    return f"{100 * (1 - accuracy.value):.1f}"


def _with_interval(accuracy: Accuracy) -> str:
    return f"{_error(accuracy)} ({100 * (1 - accuracy.high):.1f}–{100 * (1 - accuracy.low):.1f})"


def _percent(ratio: Mean | None) -> str:
    return "–" if ratio is None else f"{100 * ratio.value:.1f}"


def _mean(ratio: Mean | None) -> str:
    return "–" if ratio is None else f"{100 * ratio.value:.1f} ({100 * ratio.low:.1f}–{100 * ratio.high:.1f})"


def _said_of_errors(found: Corruptions) -> str:
    intervals = ", CE by the bootstrap with the baseline taken as exact" if found.relative else ""
    return (
        f"Top-1 errors in %, 95 % Wilson intervals{intervals}, {found.mean.examples} test examples."
        f" {said_of_corruptions(found)}"
    )


def said_of_corruptions(found: Corruptions) -> str:
    """What the numbers are means of, where the images come from, and what they are relative to."""
    missing = [kind for kind in TYPES if kind not in found.means]
    said = f"{len(found.means)} of {len(TYPES)} types of corruption"
    said += f", without {', '.join(missing)}" if missing else ""
    sources: dict[str, list[str]] = {}
    for kind, source in found.sources.items():
        sources.setdefault(source, []).append(kind)
    named = [source if len(sources) == 1 else f"{source} ({', '.join(kinds)})" for source, kinds in sources.items()]
    said += f"; images {'; '.join(named)}."
    if (relative := found.relative) is None:
        return f"{said} No mCE: baseline=… says relative to what."
    shared = len(relative.errors)
    over = f", over the {shared} types that it has" if shared < len(found.means) else ""
    said += (
        f" mCE {_mean(relative.mce)}, relative mCE {_mean(relative.relative_mce)} in % of {relative.baseline}{over}."
    )
    undefined = [kind for kind, ratio in relative.relative.items() if ratio is None]
    return said + (f" Without relative CE: {', '.join(undefined)}, which do not harm it." if undefined else "")

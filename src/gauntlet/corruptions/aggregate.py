"""The corruption error of a suite: accuracy by type, mean, mCE and relative mCE, and a table with every severity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import polars as pl

from gauntlet.corruptions.common import SEVERITIES, TYPES
from gauntlet.corruptions.errors import Errors, Relative, errors_of, read_errors, relative_to
from gauntlet.errors import UserError
from gauntlet.evaluation.columns import Aggregated, Column, ResultTable
from gauntlet.evaluation.entries import Entry, check_named
from gauntlet.evaluation.run import Measured, Run
from gauntlet.evaluation.statistics.accuracy import mean_share
from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.identity import PLACE
from gauntlet.kinds import Kind

MEAN = "corruption mean"


@dataclass(frozen=True)
class CorruptionError:
    """Accuracy by type over five severities, its mean, and errors relative to a baseline.

    Args:
        types: names of the suite's entries by type, severity 1 first.
        sources: by type, `generated` or the name of the published files.
        clean: name of the entry of clean images.
        baseline: errors of the baseline; None leaves out mCE and relative mCE.
    """

    identity: ClassVar[str] = "corruption_error/1"
    types: Mapping[str, Sequence[str]]
    sources: Mapping[str, str]
    clean: str = "clean"
    baseline: Errors | None = field(default=None, metadata=PLACE)

    def check(self, name: str, entries: Mapping[str, Entry]) -> None:
        """Raise ValueError if an entry is missing or is no transform."""
        members = {self.clean}
        for names in self.types.values():
            members |= set(names)
        check_named(name, sorted(members), entries, [Kind.TRANSFORM])

    def conjunction(self, entries: Mapping[str, Entry]) -> Mapping[str, float]:
        """Return nothing: this is no union."""
        return {}

    def read_baseline(self, given: str, published: Path, find: Callable[[], Run]) -> dict[str, Any]:
        """Return the errors of a baseline as plain values.

        Args:
            given: name of a file in `published/errors`, a YAML of errors, or any input that `find` reads.
            published: the folder of published numbers.
            find: the run of a network that was evaluated by the same suite on the same images.

        Raises:
            UserError: `given` is none of these, or shares no type with the suite.
        """
        known = published / "errors" / f"{given}.yaml"
        if known.is_file() or given.endswith((".yaml", ".yml")):
            errors = read_errors(known if known.is_file() else Path(given))
        elif not Path(given).exists():
            names = ", ".join(sorted(file.stem for file in known.parent.glob("*.yaml")))
            raise UserError(
                f"baseline={given}: expected {names}, a YAML of errors, a run folder, or a checkpoint of one"
            )
        else:
            run = find()
            cells = {kind: [run.records[member] for member in members] for kind, members in self.types.items()}
            errors = errors_of(run.name, run.records[self.clean], cells)
        if errors.types.keys().isdisjoint(self.types):
            raise UserError(
                f"baseline={given} has errors of {', '.join(sorted(errors.types)) or 'nothing'}, the suite has"
                f" {', '.join(sorted(self.types))}: give one that shares some"
            )
        return errors.as_json()

    def relative_to(self, baseline: Mapping[str, Any]) -> Self:
        """Return the same aggregate, relative to a baseline's errors in plain values."""
        return replace(self, baseline=Errors(**baseline))

    def __call__(self, name: str, measured: Measured) -> Aggregated:
        """Return a column for each type, their mean, and mCE and relative mCE if there is a baseline."""
        frames = {kind: [measured.records[one] for one in members] for kind, members in self.types.items()}
        clean = measured.records[self.clean]
        accuracies = _Accuracies(frames, clean)
        relative = relative_to(self.baseline, clean, frames) if self.baseline else None
        every = [member for members in self.types.values() for member in members]
        columns = {kind: Column(mean, self.types[kind]) for kind, mean in accuracies.means.items()}
        columns[MEAN] = Column(accuracies.mean, every)
        if relative:
            columns["mCE"] = Column(relative.mce, every)
            columns["relative mCE"] = Column(relative.relative_mce, [*every, self.clean])
        note = self._note(relative)
        return Aggregated(columns, every, ResultTable(_head(relative), _rows(accuracies, relative), note), note)

    def _note(self, relative: Relative | None) -> str:
        """Explain the mean, the source of the images, and the baseline."""
        missing = [kind for kind in TYPES if kind not in self.types]
        parts = [f"{len(self.types)} of {len(TYPES)} types of corruption"]
        if missing:
            parts.append(f"without {', '.join(missing)}")
        by_source: dict[str, list[str]] = {}
        for kind, source in self.sources.items():
            by_source.setdefault(source, []).append(kind)
        sources = []
        for source, kinds in by_source.items():
            sources.append(source if len(by_source) == 1 else f"{source} ({', '.join(kinds)})")
        text = f"{', '.join(parts)}; images {'; '.join(sources)}."
        if relative is None:
            return f"{text} No mCE: set baseline=… for it."
        shared = len(relative.errors)
        over = f", over the {shared} types that it has" if shared < len(self.types) else ""
        text += f" mCE {_with_interval(relative.mce)}, relative mCE {_with_interval(relative.relative_mce)}"
        text += f" in % of {relative.baseline}{over}; intervals by the bootstrap, the baseline taken as exact."
        undefined = [kind for kind, ratio in relative.relative.items() if ratio is None]
        return text + (f" Without relative CE: {', '.join(undefined)}, which do not harm it." if undefined else "")


class _Accuracies:
    """Accuracies on corrupted images, whatever the prediction on the clean image."""

    def __init__(self, frames: Mapping[str, Sequence[pl.DataFrame]], clean: pl.DataFrame) -> None:
        right = {kind: [frame["correct"] for frame in cells] for kind, cells in frames.items()}
        self.severities = {kind: [mean_share([cell]) for cell in cells] for kind, cells in right.items()}
        self.means = {kind: mean_share(cells) for kind, cells in right.items()}
        self.mean = mean_share([cell for cells in right.values() for cell in cells])
        self.clean = mean_share([clean["correct"]])


def _head(relative: Relative | None) -> list[str]:
    return ["error %", *map(str, SEVERITIES), "mean", *(["CE", "relative CE"] if relative else [])]


def _rows(accuracies: _Accuracies, relative: Relative | None) -> list[list[str]]:
    """A row for clean images, a row per type, and a last row for the mean over types."""
    clean = ["clean", *[""] * len(SEVERITIES), _error_interval(accuracies.clean)]
    rows = [[*clean, "", ""] if relative else clean]
    for kind, cells in accuracies.severities.items():
        row = [kind, *map(_error, cells), _error_interval(accuracies.means[kind])]
        if relative:
            row += [_text(relative.errors.get(kind)), _text(relative.relative.get(kind))]
        rows.append(row)
    columns = zip(*accuracies.severities.values(), strict=True)
    means = [100 * sum(1 - cell.value for cell in column) / len(column) for column in columns]
    last = [f"mean of {len(accuracies.means)}", *(f"{mean:.1f}" for mean in means)]
    last.append(_error_interval(accuracies.mean))
    if relative:
        last += [_with_interval(relative.mce), _with_interval(relative.relative_mce)]
    return [*rows, last]


def _text(ratio: Estimate | None) -> str:
    return "–" if ratio is None else ratio.text


def _error(accuracy: Estimate) -> str:
    return f"{100 * (1 - accuracy.value):.1f}"


def _error_interval(accuracy: Estimate) -> str:
    return f"{_error(accuracy)} ({100 * (1 - accuracy.high):.1f}–{100 * (1 - accuracy.low):.1f})"


def _with_interval(ratio: Estimate | None) -> str:
    return "–" if ratio is None else f"{ratio.text} ({ratio.interval})"

"""Corruption error, mCE and relative mCE: how a classifier's errors compare to a baseline's.

Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR 2019,
§4.2. With E(c, s) a top-1 error and E the clean one:

    CE(c) = Σ E(c, s) / Σ E'(c, s)        relative CE(c) = Σ [E(c, s) − E] / Σ [E'(c, s) − E']

over the severities s, E' the baseline's; mCE and relative mCE are their means over the types. An error counts every
example, also those that the classifier gets wrong when clean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from gauntlet.corruptions import SEVERITIES, TYPES
from gauntlet.errors import UserError
from gauntlet.evaluation.bootstrap import Mean, bootstrap_means


@dataclass(frozen=True)
class Errors:
    """What a baseline gets wrong, shares in [0, 1]."""

    name: str
    clean: float
    types: Mapping[str, Sequence[float]]
    """Severity 1 first."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, and back by `Errors(**values)`."""
        return asdict(self)


@dataclass(frozen=True)
class Relative:
    """Errors as multiples of a baseline's, with 95 % intervals that take the baseline as exact.

    None where the baseline makes no errors, or no more than when clean, so that there is nothing to divide by.
    """

    baseline: str
    errors: Mapping[str, Mean | None]
    """CE by type."""
    relative: Mapping[str, Mean | None]
    """Relative CE by type."""
    mce: Mean | None
    relative_mce: Mean | None


def wrong(records: pl.DataFrame) -> pl.Series:
    """Which answers are wrong, `[N]`, whatever the answer to the clean image was."""
    return records["prediction"] != records["label"]


def errors_of(name: str, clean: pl.DataFrame, types: Mapping[str, Sequence[pl.DataFrame]]) -> Errors:
    """A network's own errors, from its records."""
    return Errors(name, _share(clean), {kind: [_share(cell) for cell in cells] for kind, cells in types.items()})


def _share(records: pl.DataFrame) -> float:
    return float(wrong(records).mean() or 0.0)  # type: ignore[arg-type]


def relative_to(baseline: Errors, clean: pl.DataFrame, types: Mapping[str, Sequence[pl.DataFrame]]) -> Relative:
    """CE and relative CE of every type that the baseline has too.

    Args:
        baseline: what to divide by.
        clean: records of the clean images.
        types: records of the same examples by type, severity 1 first.

    Raises:
        UserError: the baseline has none of the types.
    """
    shared = [kind for kind in types if kind in baseline.types]
    if not shared:
        raise UserError(f"baseline {baseline.name} has errors of {sorted(baseline.types)}, here are {sorted(types)}")
    untouched = wrong(clean).cast(pl.Float64)
    plain, relative = {}, {}
    for kind in shared:
        fallen = sum((wrong(cell).cast(pl.Float64) for cell in types[kind]), start=0 * untouched)
        theirs = sum(baseline.types[kind])
        plain[kind] = _divided(fallen, theirs)
        relative[kind] = _divided(fallen - len(types[kind]) * untouched, theirs - len(types[kind]) * baseline.clean)
    columns = {(0, kind): column for kind, column in plain.items()}
    columns |= {(1, kind): column for kind, column in relative.items()}
    columns |= {(0, "mean"): _mean_of(plain), (1, "mean"): _mean_of(relative)}
    found = _bootstrapped(columns)
    errors, ratios = ({kind: found[which, kind] for kind in shared} for which in (0, 1))
    return Relative(baseline.name, errors, ratios, found[0, "mean"], found[1, "mean"])


def _divided(column: pl.Series, by: float) -> pl.Series | None:
    """What each example adds to a ratio; None where the divisor is 0 or, but for rounding, less."""
    return column / by if by > 1e-9 else None


def _mean_of(columns: Mapping[str, pl.Series | None]) -> pl.Series | None:
    """Of the types; None where one of them has no number."""
    known = [column for column in columns.values() if column is not None]
    return sum(known, start=0 * known[0]) / len(known) if len(known) == len(columns) else None


def _bootstrapped(columns: Mapping[tuple[int, str], pl.Series | None]) -> dict[tuple[int, str], Mean | None]:
    known = {key: column.to_list() for key, column in columns.items() if column is not None}
    means = dict(zip(known, bootstrap_means(list(known.values())), strict=True)) if known else {}
    return {key: means.get(key) for key in columns}


def read_errors(file: Path) -> Errors:
    """A baseline's errors from YAML: `name`, `clean` and `errors` by type, in percent; as `conf/published/errors` has.

    Raises:
        UserError: it is no such file.
    """
    try:
        content = yaml.safe_load(file.read_bytes())
        name, clean, types = str(content["name"]), float(content["clean"]), dict(content["errors"])
        errors = {kind: [float(value) / 100 for value in cells] for kind, cells in types.items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} holds no errors of a baseline ({error!r}): expected name, clean and errors") from None
    for kind, cells in errors.items():
        if kind not in TYPES or len(cells) != len(SEVERITIES) or not all(0 <= value <= 1 for value in cells):
            raise UserError(
                f"{file}: errors.{kind} is {types[kind]}: expected a type of the benchmark ({TYPES[0]}, …) with"
                f" {len(SEVERITIES)} percentages"
            )
    if not 0 <= clean <= 100:
        raise UserError(f"{file}: clean is {clean}: expected a percentage")
    return Errors(name, clean / 100, errors)

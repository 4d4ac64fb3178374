"""Corruption error (CE), mean corruption error (mCE) and relative mCE: a classifier's errors relative to a baseline's.

Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR 2019,
§4.2. With E(c, s) a top-1 error and E the clean one:

    CE(c) = Σ E(c, s) / Σ E'(c, s)        relative CE(c) = Σ [E(c, s) − E] / Σ [E'(c, s) − E']

over the severities s, E' the baseline's; mCE and relative mCE are their means over the types. Errors count on all
examples, whatever the prediction on the clean image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from gauntlet.corruptions.common import SEVERITIES, TYPES
from gauntlet.errors import UserError
from gauntlet.evaluation.statistics.bootstrap import bootstrap_means
from gauntlet.evaluation.statistics.estimates import PERCENT, Estimate


@dataclass(frozen=True)
class Errors:
    """Errors of a baseline, shares in [0, 1]."""

    name: str
    clean: float
    types: Mapping[str, Sequence[float]]
    """By type, severity 1 first."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values, which `Errors(**values)` reads."""
        return asdict(self)


@dataclass(frozen=True)
class Relative:
    """Errors as multiples of a baseline's, with 95 % intervals that take the baseline as exact.

    None if the baseline makes no errors, or no more than on clean images, so that the divisor is not positive.
    """

    baseline: str
    errors: Mapping[str, Estimate | None]
    """CE by type."""
    relative: Mapping[str, Estimate | None]
    """Relative CE by type."""
    mce: Estimate | None
    relative_mce: Estimate | None


def wrong(records: pl.DataFrame) -> pl.Series:
    """Return which predictions are wrong, `[N]`, whatever the prediction on the clean image."""
    return ~records["correct"]


def errors_of(name: str, clean: pl.DataFrame, types: Mapping[str, Sequence[pl.DataFrame]]) -> Errors:
    """Return the errors of a network from its records."""
    return Errors(name, _share(clean), {kind: [_share(cell) for cell in cells] for kind, cells in types.items()})


def _share(records: pl.DataFrame) -> float:
    return float(wrong(records).mean() or 0.0)  # type: ignore[arg-type]


def relative_to(baseline: Errors, clean: pl.DataFrame, types: Mapping[str, Sequence[pl.DataFrame]]) -> Relative:
    """Return CE and relative CE of every type that the baseline has too.

    Args:
        baseline: errors of the baseline.
        clean: records of the clean images.
        types: records of the same examples by type, severity 1 first.

    Raises:
        UserError: the baseline shares no type.
    """
    shared = [kind for kind in types if kind in baseline.types]
    if not shared:
        raise UserError(f"baseline {baseline.name} has errors of {sorted(baseline.types)}, here are {sorted(types)}")
    unchanged = wrong(clean).cast(pl.Float64)
    plain, relative = {}, {}
    for kind in shared:
        count = len(types[kind])
        errors_per_example = sum((wrong(cell).cast(pl.Float64) for cell in types[kind]), start=0 * unchanged)
        theirs = sum(baseline.types[kind])
        plain[kind] = _divided(errors_per_example, theirs)
        relative[kind] = _divided(errors_per_example - count * unchanged, theirs - count * baseline.clean)
    errors, ratios = _bootstrapped(plain), _bootstrapped(relative)
    return Relative(baseline.name, errors, ratios, _mean_of(plain), _mean_of(relative))


def _divided(column: pl.Series, by: float) -> pl.Series | None:
    """Each example's part of a ratio; None if the divisor is 0, up to rounding, or negative."""
    return column / by if by > 1e-9 else None


def _mean_of(columns: Mapping[str, pl.Series | None]) -> Estimate | None:
    """The mean over types; None if one of them is undefined."""
    known = [column for column in columns.values() if column is not None]
    if len(known) < len(columns):
        return None
    return _bootstrapped({"mean": sum(known, start=0 * known[0]) / len(known)})["mean"]


def _bootstrapped(columns: Mapping[str, pl.Series | None]) -> dict[str, Estimate | None]:
    known = {kind: column.to_list() for kind, column in columns.items() if column is not None}
    means = dict(zip(known, bootstrap_means(list(known.values())), strict=True)) if known else {}
    return {kind: means[kind]._replace(unit=PERCENT) if kind in means else None for kind in columns}


def read_errors(file: Path) -> Errors:
    """Read a baseline's errors from YAML: `name`, `clean` and `errors` by type, in percent, as `conf/published/errors`.

    Raises:
        UserError: the file has another content.
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

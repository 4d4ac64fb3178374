"""Write `report.md` of a run folder: the table of every suite it was measured by, details and provenance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gauntlet.errors import UserError
from gauntlet.evaluation.plan import find_plans, read_card
from gauntlet.evaluation.run import Run, read_run
from gauntlet.files import write_atomically
from gauntlet.kinds import Kind
from gauntlet.reports.curves import curves_markdown, read_curves
from gauntlet.reports.details import details
from gauntlet.reports.table import bound_text, run_markdown


def write_run_report(folder: Path, facts: Sequence[str] = ()) -> None:
    """Write the report from cards, plans and records.

    Args:
        folder: the run folder.
        facts: lines about the measurement that are not part of the records.
    """
    card = read_card(folder)
    parts = [f"# {card.name}\n"]
    for suite, plan in find_plans(folder).items():
        if not card.is_of(plan) or plan.share is not None:
            continue  # measured on earlier weights, or a point of a curve
        parts.append(f"## Attack suite {suite}\n")
        try:
            parts += _suite(read_run(folder, suite))
        except UserError as error:  # records of one suite were removed: the others are still shown
            parts.append(f"{error}\n")
    parts += _curves(folder)
    parts += ["## Provenance\n", f"- trained on: {card.training}"]
    parts += [f"- checkpoint SHA-256 `{card.checkpoint}`", f"- dataset fingerprint `{card.fingerprint}`"]
    parts += [f"- {fact}" for fact in facts]
    parts += ["- code revision, versions and machine: `provenance.json`; every record: `records/`"]
    write_atomically(folder / "report.md", "\n".join(parts) + "\n")


def _suite(run: Run) -> list[str]:
    parts = [run_markdown(run)]
    if not run.survivors and (run.attacks or any(e.kind is Kind.CERTIFICATE for e in run.plan.entries.values())):
        parts.append(details(run))
    bounds = [
        f"{name} {bound_text(entry.bound)} {entry.unit}".strip()
        for name, entry in run.plan.entries.items()
        if entry.bound and name in run.shown
    ]
    parts.append(f"Bounds: {', '.join(bounds) or 'none'}.\n")
    if (run.folder / "pictures" / f"{run.suite}.png").exists():
        parts.append(f"![clean, adversarial, magnified difference](pictures/{run.suite}.png)\n")
    return parts


def _curves(folder: Path) -> list[str]:
    """The tables of every suite that was run at shares of its bounds."""
    suites = sorted({suite.rpartition("@")[0] for suite in find_plans(folder) if "@" in suite})
    parts = []
    for suite in suites:
        title = f"## Accuracy against the bound, attack suite {suite}\n"
        try:
            runs = read_curves(folder, suite)
        except UserError as error:
            parts += [title, f"{error}\n"]
            continue
        parts += [title, curves_markdown(runs)] if runs else []
    return parts

"""A classifier runs the gauntlet: outcomes, suite, report and pictures in its run folder, a table on the terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gauntlet.corruptions import SEVERITIES, Corruption
from gauntlet.distances.calibrated import CalibratedLPIPS
from gauntlet.errors import UserError
from gauntlet.evaluation import (
    AttackSuite,
    Grid,
    OutcomeFolder,
    Subject,
    first_look,
    probe,
    read_flags,
    read_outcomes,
    recorded,
    write_flags,
)
from gauntlet.files import read_json, write_atomically
from gauntlet.launch.display import Display
from gauntlet.launch.folder import RunFolder
from gauntlet.launch.instantiate import instantiate
from gauntlet.launch.ranks import ranks
from gauntlet.launch.terminal import show
from gauntlet.reports import details, draw_examples, markdown_table, read_row, run_table
from gauntlet.reports.corrupted import corruption_markdown, corruption_table
from gauntlet.reports.curves import at_share, curves_markdown, curves_table, read_curves
from gauntlet.reports.table import Row, caption, flag_lines, read_card, said_of_training

_OF_THE_SUBJECT = ("device", "calibrated_lpips")  # keys of a config's `evaluation` that are not the grid's


def device_of(choice: str) -> torch.device:
    """`auto` is the first GPU, or the CPU where there is none.

    Raises:
        UserError: a device that is not there.
    """
    try:
        device = torch.device(
            "cuda" if choice == "auto" and torch.cuda.is_available() else choice.replace("auto", "cpu")
        )
    except RuntimeError:
        raise UserError(f"evaluation.device={choice}: expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"evaluation.device={choice}, and torch sees no GPU: write cpu or auto")
    if str(device) == "cuda":
        return torch.device("cuda", ranks().local % torch.cuda.device_count())
    return device


def build_grid(node: Mapping[str, Any], rank: int = 0, world: int = 1) -> Grid:
    """The grid of a config's `evaluation`, part of which belongs to the subject."""
    own = {key: value for key, value in node.items() if key not in _OF_THE_SUBJECT}
    grid = instantiate(own, "evaluation", rank=rank, world=world)
    assert isinstance(grid, Grid)
    return grid


def build_calibrated(node: Mapping[str, Any]) -> CalibratedLPIPS:
    """The distance of the column `lpips_calibrated`, from a config's `evaluation`.

    Raises:
        UserError: a file that is not there.
    """
    file = node.get("calibrated_lpips")
    if file is not None and not Path(file).is_file():
        raise UserError(f"evaluation.calibrated_lpips={file}: there is no such file; null is torchvision's own")
    return CalibratedLPIPS(file)


def run_gauntlet(
    subject: Subject, suite: AttackSuite, name: str, grid: Grid, folder: RunFolder, share: float | None = None
) -> None:
    """Do what is missing of a suite, then write and show what came out.

    Args:
        subject: who.
        suite: under which attacks.
        name: of the suite.
        grid: how.
        folder: where.
        share: of the dataset's bounds that the attacks have; None where nobody asked for shares.
    """
    start = time.monotonic()
    name = at_share(name + grid.mode.suffix, share)
    places = grid.folders(subject, suite, folder.outcomes)
    plan = _plan(folder, suite, grid, subject, places) | ({} if share in (None, 1) else {"share": share})
    _check_plan(folder, name, plan)
    if grid.rank:
        grid.run(subject, suite, folder.outcomes, lambda _: None)
        return
    say_first(subject, grid, places if share is None else {})  # other bounds are what was asked for
    with Display(suite.attacks) as display:
        grid.run(subject, suite, folder.outcomes, display.chunk_done)
    picture = folder.path / "pictures" / f"{name}.png"
    drawn = picture.exists() and _read_plan(folder, name) == plan
    write_atomically(_plan_file(folder, name), json.dumps(plan, indent=1) + "\n")
    _check(subject, suite, name, grid, folder)
    _write_report(folder, subject)
    if not drawn:
        draw_examples(subject, suite, grid, picture)
    row = read_row(folder.path, name)
    title = f"{row.name} through attack suite {name}"
    corrupted = row.corrupted
    show(corruption_table(corrupted, title, flag_lines(row)) if corrupted else run_table(row, title), piped_width=120)
    print(f"evaluated in {time.monotonic() - start:.0f} s; all of it is in {_near(folder.path)}", flush=True)


def show_curves(name: str, grid: Grid, folder: RunFolder) -> None:
    """Accuracy against the bound, of all shares that a run has been evaluated at."""
    rows = read_curves(folder.path, name + grid.mode.suffix)
    if grid.rank or len(rows) < 2:
        return
    show(curves_table(rows, f"attack suite {name} at shares of its bounds"), piped_width=120)


def _check(subject: Subject, suite: AttackSuite, name: str, grid: Grid, folder: RunFolder) -> None:
    """Sanity flags of whole records, unless these weights have them already."""
    if grid.mode.suffix or read_flags(folder.path, name, subject.checkpoint) is not None:
        return
    print("sanity checks: gradients, bounds, convergence, noise, unbounded attack", flush=True)
    places = grid.folders(subject, suite, folder.outcomes)
    outcomes = {attack: read_outcomes(place.path) for attack, place in places.items()}
    few = subject.examples[slice(0, min(grid.probed, grid.chunks(subject)[-1].stop))]
    flags = [*recorded(suite, outcomes), *probe(subject.classifier, suite, few, grid.seed)]
    write_flags(folder.path, name, subject.checkpoint, flags)


def write_card(folder: RunFolder, card: Mapping[str, Any]) -> None:
    """Who this run is: what tables and the unseen mean need to know."""
    write_atomically(folder.path / "card.json", json.dumps(dict(card), indent=1) + "\n")


def say_first(subject: Subject, grid: Grid, places: Mapping[str, OutcomeFolder]) -> None:
    """Clean accuracy, the range of the images, and what makes records that are there already useless."""
    look = first_look(subject, grid.chunks(subject)[0])
    print(look, flush=True)
    for doubt in look.doubts:
        print(f"warning: {doubt}", flush=True)
    for name, place in places.items():
        if changed := place.changed():
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            print(f"{name} is measured anew, because it changed: {'; '.join(changed[:3])}{more}", flush=True)


def _plan(
    folder: RunFolder, suite: AttackSuite, grid: Grid, subject: Subject, places: Mapping[str, OutcomeFolder]
) -> dict[str, Any]:
    """What a suite was in this run: its attacks, where their outcomes are, on what they were measured.

    `survivors_of` names the attacks whose victims an attack was not run on.
    """
    entries = {
        name: {
            "folder": str(place.path.relative_to(folder.path)),
            "threat_model": suite.attacks[name].threat_model.name,
            "bound": suite.attacks[name].threat_model.bound,
            "survivors_of": grid.mode.earlier(suite, name),
            **({"corruption": which} if (which := corruption_of(suite, name)) else {}),
        }
        for name, place in places.items()
    }
    total = grid.chunks(subject)[-1].stop
    return {"checkpoint": subject.checkpoint, "attacks": entries, "union": list(suite.union), "examples": total}


def corruption_of(suite: AttackSuite, name: str) -> dict[str, Any]:
    """Which corruption an attack shows, where the suite has its type whole and no union: else it is one like others."""
    threat = suite.attacks[name].threat_model
    if not isinstance(threat, Corruption) or suite.union:
        return {}
    others = [attack.threat_model for attack in suite.attacks.values()]
    levels = sorted(one.severity for one in others if isinstance(one, Corruption) and one.type == threat.type)
    if levels != list(SEVERITIES):
        return {}
    return {"type": threat.type, "severity": threat.severity, "source": threat.source}


def _check_plan(folder: RunFolder, name: str, plan: Mapping[str, Any]) -> None:
    """Refuse to put other numbers under a name that a table of this checkpoint has already."""
    known = _read_plan(folder, name)
    if known and known["checkpoint"] == plan["checkpoint"] and known != plan:
        raise UserError(
            f"{folder.path} has another suite {name} for this checkpoint (other attacks, bounds, examples or seed):"
            f" give this one a name of its own with suite=<name>"
        )


def _plan_file(folder: RunFolder, name: str) -> Path:
    return folder.path / "suites" / f"{name}.json"


def _read_plan(folder: RunFolder, name: str) -> dict[str, Any] | None:
    file = _plan_file(folder, name)
    plan: dict[str, Any] | None = read_json(file) if file.exists() else None
    return plan


def _write_report(folder: RunFolder, subject: Subject) -> None:
    """`report.md`: the table of every suite the run went through, and what stands behind the numbers."""
    card = read_card(folder.path)
    parts = [f"# {card['name']}\n"]
    for suite in sorted(path.stem for path in (folder.path / "suites").glob("*.json")):
        plan = read_json(_plan_file(folder, suite))
        if plan["checkpoint"] != card["checkpoint"] or "share" in plan:
            continue  # of weights that were here before; a point of a curve
        try:
            row = read_row(folder.path, suite)
        except UserError as error:  # another suite's records were taken away: no reason to hide this one's
            parts += [f"## Attack suite {suite}\n", f"{error}\n"]
            continue
        bounds = ", ".join(f"{name} {bound:.4g}" for name, bound in row.bounds.items() if bound)
        parts += [f"## Attack suite {suite}\n", *_tables(folder, suite, row)]
        parts += [f"Bounds: {bounds or 'none'}.\n"]
        parts += [f"![clean, adversarial, magnified difference](pictures/{suite}.png)\n"]
    parts += _curves(folder)
    missing = subject.calibrated.missing(subject.examples.shape[1:])
    parts += ["## What stands behind the numbers\n", f"- trained on: {said_of_training(card)}"]
    parts += [f"- checkpoint SHA-256 `{card['checkpoint']}`", f"- dataset fingerprint `{card['fingerprint']}`"]
    parts += [f"- calibrated LPIPS: {'measured' if missing is None else f'not measured, {missing}'}"]
    parts += ["- code revision, versions and machine: `provenance.json`; every record: `outcomes/`"]
    write_atomically(folder.path / "report.md", "\n".join(parts) + "\n")


def _tables(folder: RunFolder, suite: str, row: Row) -> list[str]:
    """What a suite came to; of corruptions a table of their own."""
    if row.corrupted:
        return [corruption_markdown(row.corrupted, flag_lines(row))]
    return [markdown_table([row]), caption([row]), *([] if row.survivors else [details(folder.path, suite)])]


def _curves(folder: RunFolder) -> list[str]:
    """Accuracy against the bound, of every suite that was run at shares of its bounds."""
    suites = sorted({path.stem.rpartition("@")[0] for path in (folder.path / "suites").glob("*@*.json")})
    parts = []
    for suite in suites:
        try:
            rows = read_curves(folder.path, suite)
        except UserError as error:
            parts += [f"## Accuracy against the bound, attack suite {suite}\n", f"{error}\n"]
            continue
        parts += [f"## Accuracy against the bound, attack suite {suite}\n", curves_markdown(rows)] if rows else []
    return parts


def _near(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path

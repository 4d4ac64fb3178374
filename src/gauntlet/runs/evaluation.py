"""Run a suite on a classifier: records, plan, report and pictures in its run folder, a table on the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gauntlet.cluster.ranks import ranks
from gauntlet.config.instantiate import instantiate
from gauntlet.config.parts import expect_kind, path_of
from gauntlet.distances.calibrated import CalibratedLPIPS
from gauntlet.errors import UserError
from gauntlet.evaluation import (
    AttackSuite,
    Flag,
    Grid,
    Measured,
    ModelUnderTest,
    Plan,
    PlannedEntry,
    RecordFolder,
    Run,
    clean_check,
    flags_of_records,
    probe,
    read_card,
    read_flags,
    read_records,
    read_run,
    write_flags,
)
from gauntlet.evaluation.grouping import family_of
from gauntlet.evaluation.plan import find_plan
from gauntlet.evaluation.sanity.soundness_check import check_soundness
from gauntlet.evaluation.suite_of_task import suite_of_task
from gauntlet.identity import describe
from gauntlet.reports import draw_examples, run_tables, write_run_report
from gauntlet.reports.certified import certified_and_attacked
from gauntlet.reports.curves import at_share, curves_table, read_curves
from gauntlet.reports.result_table import as_rich
from gauntlet.runs.folder import RunFolder
from gauntlet.runs.progress import Display
from gauntlet.terminal import show

_MODEL_KEYS = ("device", "calibrated_lpips")  # keys of a config's `evaluation` that are not the grid's


def device_of(choice: str) -> torch.device:
    """Return the device of a config's `evaluation.device`; `auto` is the first GPU, or the CPU without one.

    Raises:
        UserError: the device does not exist.
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
    """Build the grid of a config's `evaluation`, without the keys of the model under test."""
    own = {key: value for key, value in node.items() if key not in _MODEL_KEYS}
    grid = instantiate(own, "evaluation", rank=rank, world=world)
    expect_kind(grid, Grid, "evaluation")
    assert isinstance(grid, Grid)
    return grid


def build_calibrated(node: Mapping[str, Any]) -> CalibratedLPIPS:
    """Build the distance of the column `lpips` from a config's `evaluation`.

    Raises:
        UserError: the file does not exist.
    """
    file = node.get("calibrated_lpips")
    if file is not None and not path_of(file, "evaluation.calibrated_lpips").is_file():
        raise UserError(f"evaluation.calibrated_lpips={file}: there is no such file; null is torchvision's own")
    return CalibratedLPIPS(file)


def run_suite(
    model: ModelUnderTest, suite: AttackSuite, name: str, grid: Grid, folder: RunFolder, share: float | None = None
) -> Run | None:
    """Measure what is missing of a suite, then write and show the results.

    Args:
        model: the classifier, recognised by its logits.
        suite: the attack suite.
        name: of the suite.
        grid: grid of the evaluation.
        folder: run folder.
        share: of the dataset's bounds that the suite has; None without shares.

    Returns:
        The run; None in every process but the first.
    """
    start = time.monotonic()
    suite = suite_of_task(suite, model.task)
    name = at_share(name + grid.mode.suffix, share)
    folders = grid.folders(model, suite, folder.records)
    plan = make_plan(folder, suite, grid, model, folders, None if share == 1 else share)
    known = find_plan(folder.path, name)
    _check_plan(folder, name, known, plan)
    if grid.rank:
        grid.run(model, suite, folder.records, lambda _: None)
        return None
    replace(read_card(folder.path), classifier=model.classifier_digest).write(folder.path)
    print_checks(model, grid, folder, folders if share is None else {})  # at shares, other bounds are intended
    with Display(suite.entries) as display:
        grid.run(model, suite, folder.records, display.chunk_done)
    known = known if known is not None and known.same_measurement(plan) else None
    plan = _with_results(model, suite, grid, folder, plan, known, folders)
    plan.write(folder.path, name)
    same_soundness = known is not None and known.soundness == plan.soundness
    checked = same_soundness and read_flags(folder.path, name, model.checkpoint) is not None
    if not (checked or grid.mode.suffix):
        _check(model, suite, name, grid, folder, plan)
    picture = folder.path / "pictures" / f"{name}.png"
    if not (known and picture.exists()):
        draw_examples(model, suite, grid, plan, picture)
    write_run_report(folder.path, [_lpips_fact(model)])
    run = read_run(folder.path, name)
    _show(run, name)
    print(f"evaluated in {time.monotonic() - start:.0f} s; all of it is in {_relative(folder.path)}", flush=True)
    return run


def _show(run: Run, name: str) -> None:
    for table in run_tables(run, f"{run.name} through attack suite {name}"):
        show(table, piped_width=120)
    if beside := certified_and_attacked({run.name: run}):
        show(as_rich(beside, "certified and attacked accuracy"), piped_width=120)
    for check in run.plan.soundness:
        if check.wrong:
            print(f"SOUNDNESS: {check.certificate} is contradicted: {check.words()}", flush=True)


def show_curves(name: str, grid: Grid, folder: RunFolder) -> None:
    """Show accuracy against the bound, for all shares at which the run has been evaluated."""
    runs = read_curves(folder.path, name + grid.mode.suffix)
    if grid.rank or len(runs) < 2:
        return
    show(curves_table(runs, f"attack suite {name} at shares of its bounds"), piped_width=120)


def _with_results(
    model: ModelUnderTest,
    suite: AttackSuite,
    grid: Grid,
    folder: RunFolder,
    plan: Plan,
    known: Plan | None,
    folders: Mapping[str, RecordFolder],
) -> Plan:
    """Return the plan with aggregates and soundness checks of the finished records."""
    records = {name: read_records(entry.path, entry.kind) for name, entry in folders.items()}
    measured = Measured(read_card(folder.path), plan, records)
    results = {name: aggregate(name, measured) for name, aggregate in suite.aggregates.items()}
    if known is not None and all(check.multiple in (None, grid.multiple) for check in known.soundness):
        soundness = known.soundness
    else:
        soundness = check_soundness(model, suite, grid, measured, folders)
    return replace(plan, results=results, soundness=soundness)


def _check(model: ModelUnderTest, suite: AttackSuite, name: str, grid: Grid, folder: RunFolder, plan: Plan) -> None:
    """Write the sanity flags of complete records."""
    print("sanity checks: gradients, bounds, convergence, noise, unbounded attack", flush=True)
    records = {key: read_records(folder.path / entry.folder, entry.kind) for key, entry in plan.entries.items()}
    probed = model.examples[slice(0, min(grid.probed, grid.chunks(model)[-1].stop))]
    flags: list[Flag] = [
        *flags_of_records(suite, records),
        *probe(model.classifier, suite, probed, grid.seed, model.task),
    ]
    for check in plan.soundness:
        flags += check.flags()
    write_flags(folder.path, name, model.checkpoint, flags)


def print_checks(model: ModelUnderTest, grid: Grid, folder: RunFolder, folders: Mapping[str, RecordFolder]) -> None:
    """Print clean accuracy, warnings about the images, and why existing records are measured anew."""
    check = clean_check(model, grid.chunks(model)[0])
    print(check, flush=True)
    for warning in check.warnings:
        print(f"warning: {warning}", flush=True)
    if (folder.path / "outcomes").is_dir() and not any(folder.records.glob("*/identity.json")):
        print("records of an earlier version (outcomes/) cannot be taken over: all is measured anew", flush=True)
    for name, records in folders.items():
        if changed := records.changed():
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            print(f"{name} is measured anew, because it changed: {'; '.join(changed[:3])}{more}", flush=True)


def make_plan(
    folder: RunFolder,
    suite: AttackSuite,
    grid: Grid,
    model: ModelUnderTest,
    folders: Mapping[str, RecordFolder],
    share: float | None,
) -> Plan:
    """Return the plan of a suite in this run: its entries, the folders of their records, the examples."""
    entries = {}
    for name, entry in suite.entries.items():
        threat = entry.threat_model
        certificate = suite.certificates.get(name)
        entries[name] = PlannedEntry(
            kind=entry.kind,
            threat_model=threat.name,
            bound=float(threat.bound),
            unit=threat.unit,
            folder=str(folders[name].path.relative_to(folder.path)),
            family=family_of(threat)[0],
            gradient_free=bool(getattr(entry, "gradient_free", False)),
            survivors_of=grid.mode.earlier(suite, name),
            confidence=certificate.confidence if certificate else None,
            assumption=certificate.assumption if certificate else None,
        )
    aggregates = {name: describe(aggregate) for name, aggregate in suite.aggregates.items()}
    total = grid.chunks(model)[-1].stop
    return Plan(model.checkpoint, total, entries, aggregates, model.classifier_digest, share)


def _check_plan(folder: RunFolder, name: str, known: Plan | None, plan: Plan) -> None:
    """Refuse to put other numbers under the name of an existing table of this classifier."""
    if known is None or (known.checkpoint, known.classifier) != (plan.checkpoint, plan.classifier):
        return
    if not known.same_measurement(plan):
        raise UserError(
            f"{folder.path} has another suite {name} for this checkpoint (other attacks, bounds, examples or seed):"
            f" give this one a name of its own with suite=<name>"
        )


def _lpips_fact(model: ModelUnderTest) -> str:
    missing = model.calibrated.missing(model.examples.shape[1:])
    return f"LPIPS: {'measured' if missing is None else f'not measured, {missing}'}"


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path

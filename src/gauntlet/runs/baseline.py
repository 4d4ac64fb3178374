"""`baseline=…`: the run or published table that relative aggregates divide by; kept in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gauntlet.config.compose import CONF, folder_of_checkpoint
from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite, Grid, ModelUnderTest, Run, read_run
from gauntlet.evaluation.aggregate import Relative
from gauntlet.files import read_json, write_atomically
from gauntlet.runs.folder import RunFolder


def with_baseline(
    suite: AttackSuite, config: Mapping[str, Any], grid: Grid, model: ModelUnderTest, folder: RunFolder
) -> AttackSuite:
    """Return the suite with its relative aggregates bound to the given baseline, or to the one kept before.

    Args:
        suite: as configured.
        config: resolved.
        grid: grid of the evaluation.
        model: the classifier.
        folder: run folder that is evaluated.

    Raises:
        UserError: no aggregate takes a baseline, or it is missing, or was measured on other images or entries.
    """
    given = config.get("baseline")
    name = config["suite"] + grid.mode.suffix
    relative = {key: aggregate for key, aggregate in suite.aggregates.items() if isinstance(aggregate, Relative)}
    if given is not None and not relative:
        raise UserError(
            f"baseline={given} is for suites of whole corruptions with an attack called clean: leave it out, or"
            f" attack_suite=corruptions"
        )
    file = folder.path / "suites" / "baseline" / f"{name}.json"
    known: dict[str, Any] = read_json(file) if file.exists() else {}
    if given is not None:
        for key, aggregate in relative.items():
            known[key] = aggregate.read_baseline(
                str(given), CONF / "published", lambda: _run(config, grid, suite, model)
            )
        if not grid.rank:
            write_atomically(file, json.dumps(known, indent=1) + "\n")
    bound = {key: aggregate.relative_to(known[key]) for key, aggregate in relative.items() if key in known}
    return replace(suite, aggregates={**suite.aggregates, **bound})


def _run(config: Mapping[str, Any], grid: Grid, suite: AttackSuite, model: ModelUnderTest) -> Run:
    """Read the baseline's evaluation by the same suite on the same images."""
    given = str(config["baseline"])
    name = config["suite"] + grid.mode.suffix
    folder = Path(folder_of_checkpoint(given, config["outputs"]))
    if not (folder / "card.json").exists():
        folder = Path(folder_of_checkpoint(given, None))  # evaluated in its own run folder, outside of `outputs`
    if not (folder / "card.json").exists():
        raise UserError(
            f"baseline={given} has no records: first evaluate it as this is, with checkpoint={given} and no baseline"
        )
    run = read_run(folder, name)
    if run.card.fingerprint != model.fingerprint:
        raise UserError(f"baseline={folder} was evaluated on other images: evaluate it on these")
    if not run.complete:
        raise UserError(f"baseline={folder} is unfinished: run its evaluate.py command again first")
    own = grid.full_folders(model, suite, folder)
    for entry, identity in run.identities.items():
        if entry not in own or identity["entry"] != json.loads(json.dumps(own[entry].identity["entry"])):
            raise UserError(f"baseline={folder} was evaluated under another {entry}: evaluate it under this suite")
        if identity["examples"] != grid.examples:
            raise UserError(
                f"baseline={folder} was evaluated on {identity['examples'] or 'all'} examples, this is on"
                f" {grid.examples or 'all'}: evaluate both with the same evaluation.examples"
            )
    return run

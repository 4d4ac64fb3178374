"""`baseline=…`: what corruption errors are relative to, kept in the run folder from then on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite, Errors, Grid, errors_of, read_errors
from gauntlet.files import write_atomically
from gauntlet.identity import describe
from gauntlet.launch.config import CONF, folder_of_checkpoint
from gauntlet.launch.folder import RunFolder
from gauntlet.launch.gauntlet import corruption_of
from gauntlet.reports.corrupted import baseline_file, by_type
from gauntlet.reports.runs import read_run


def keep_baseline(
    folder: RunFolder, config: Mapping[str, Any], grid: Grid, suite: AttackSuite, fingerprint: str
) -> None:
    """Write what the errors of a suite are relative to.

    Args:
        folder: of the run that is evaluated.
        config: resolved.
        grid: how.
        suite: under which corruptions.
        fingerprint: of the dataset.

    Raises:
        UserError: the suite has no corruptions, or the baseline is not there, or of other images or corruptions.
    """
    name, given = config["suite"] + grid.mode.suffix, str(config["baseline"])
    types = {place["type"] for place in map(partial(corruption_of, suite), suite.attacks) if place}
    if not types or "clean" not in suite.attacks:
        raise UserError(
            f"baseline={given} is for suites of whole corruptions with an attack called clean: leave it out, or"
            f" attack_suite=corruptions"
        )
    errors = _errors(given, name, config, grid, suite, fingerprint)
    if types.isdisjoint(errors.types):
        raise UserError(
            f"baseline={given} has errors of {', '.join(sorted(errors.types)) or 'nothing'}, the suite has"
            f" {', '.join(sorted(types))}: give one that shares some"
        )
    if not grid.rank:
        write_atomically(baseline_file(folder.path, name), json.dumps(errors.as_json(), indent=1) + "\n")


def _errors(
    given: str, name: str, config: Mapping[str, Any], grid: Grid, suite: AttackSuite, fingerprint: str
) -> Errors:
    """Of a file by its name in `conf/published/errors`, a YAML, or a network that was evaluated before."""
    known = CONF / "published" / "errors" / f"{given}.yaml"
    if known.is_file() or given.endswith((".yaml", ".yml")):
        return read_errors(known if known.is_file() else Path(given))
    if not Path(given).exists():
        names = ", ".join(sorted(file.stem for file in known.parent.glob("*.yaml")))
        raise UserError(f"baseline={given}: expected {names}, a YAML of errors, a run folder, or a checkpoint of one")
    folder = Path(folder_of_checkpoint(given, config["outputs"]))
    if not (folder / "card.json").exists():
        folder = Path(folder_of_checkpoint(given, None))  # a run that was evaluated where it lies
    if not (folder / "card.json").exists():
        raise UserError(
            f"baseline={given} has no records: first evaluate it as this is, with checkpoint={given} and no baseline"
        )
    return _own(folder, name, grid, suite, fingerprint)


def _own(folder: Path, name: str, grid: Grid, suite: AttackSuite, fingerprint: str) -> Errors:
    run = read_run(folder, name)
    if run.card["fingerprint"] != fingerprint:
        raise UserError(f"baseline={folder} was evaluated on other images: evaluate it on these")
    if not run.row.complete:
        raise UserError(f"baseline={folder} is unfinished: run its evaluate.py command again first")
    for attack, identity in run.identities.items():
        if attack not in suite.attacks or identity["attack"] != json.loads(json.dumps(describe(suite.attacks[attack]))):
            raise UserError(f"baseline={folder} was evaluated under another {attack}: evaluate it under this suite")
        if identity["examples"] != grid.examples:
            raise UserError(
                f"baseline={folder} was evaluated on {identity['examples'] or 'all'} examples, this is on"
                f" {grid.examples or 'all'}: evaluate both with the same evaluation.examples"
            )
    types = {kind: [run.records[name] for name in names] for kind, names in by_type(run.plan).items()}
    return errors_of(run.card["name"], run.records["clean"], types)

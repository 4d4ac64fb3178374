"""`evaluate.py`: run any attack suite on any checkpoint, with the same records as the evaluation after training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, open_dict

from gauntlet.cluster.group import group
from gauntlet.cluster.ranks import ranks
from gauntlet.config.bounds import at_bounds, shares
from gauntlet.config.build import build_classifier, build_data, build_loggers, build_reference, build_suite
from gauntlet.config.compose import WAYS_TO_DATA, check_plain_words, check_root, plain, run_of
from gauntlet.config.instantiate import check_targets
from gauntlet.data import ImageData
from gauntlet.descriptions import digest
from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite, Card, Grid, ModelUnderTest, read_card
from gauntlet.evaluation.logits import looked_up, recognised
from gauntlet.files import read_json
from gauntlet.loggers import wandb_finished
from gauntlet.models.convert import card_of
from gauntlet.models.weights import digest_of, load_weights, read_weights
from gauntlet.reports.curves import at_share
from gauntlet.reports.dashboard import send_evaluation
from gauntlet.runs.baseline import with_baseline
from gauntlet.runs.dry_run import forecast
from gauntlet.runs.evaluation import (
    build_calibrated,
    build_grid,
    device_of,
    run_suite,
    show_curves,
)
from gauntlet.runs.folder import RunFolder
from gauntlet.runs.references import (
    fitted,
    fitted_before,
    outputs_of,
    references,
    with_references,
    without_weights,
)
from gauntlet.threat_names import check_names


def evaluate(config: DictConfig) -> None:
    """Load the checkpoint, then measure what is missing of the suite at every share of the bounds."""
    checkpoint = Path(config.checkpoint).absolute()
    home = run_of(checkpoint)
    _complete_from_run(config, RunFolder(home) if home else None)
    resolved = plain(config)
    resolved["outputs"] = str(Path(resolved["outputs"] or "outputs").absolute())
    check_plain_words(resolved)
    check_targets(resolved, resolved["allow"])
    weights = RunFolder(checkpoint).weights if checkpoint.is_dir() else checkpoint
    if checkpoint.is_dir() and not weights.exists():
        raise UserError(f"{checkpoint} holds no trained weights yet: run its train.py command again to finish it")
    tensors = read_weights(weights)
    check_root(resolved)
    data = build_data(resolved)
    classifier = build_classifier(resolved, data, 0)
    load_weights(classifier, tensors, weights)
    folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    device = device_of(resolved["evaluation"]["device"])
    process = ranks()
    grid = build_grid(resolved["evaluation"], process.rank, process.world)
    calibrated = build_calibrated(resolved["evaluation"])
    known = (fitted_before if resolved["dry_run"] else fitted)(resolved, data, outputs_of(home))
    suites = {
        share: build_suite(_ready(at_bounds(config, share), known), classifier, data)
        for share in shares(resolved["bounds"])
    }
    resolved["trained_on"] = _trained_on(resolved, suites.values())
    reference = build_reference(_ready(resolved, known), data)
    sha = digest_of(weights)
    model_under_test = ModelUnderTest(
        classifier.to(device), sha, data.splits.test, data.fingerprint, reference, calibrated, task=data.task
    )
    if resolved["dry_run"]:
        model_under_test = looked_up(model_under_test, folder.records)
        _forecast(model_under_test, suites, resolved["suite"], grid, folder)
        if not grid.rank:
            _print_missing_references(resolved, known)
        return
    if home != folder.path:
        _check_data(folder, data.fingerprint)
        if not grid.rank:
            _card(resolved, checkpoint, home, sha, data).write(folder.path)
    model_under_test = recognised(model_under_test, folder.records, group())
    suites = {share: with_baseline(suite, resolved, grid, model_under_test, folder) for share, suite in suites.items()}
    runs = [
        run_suite(model_under_test, suite, resolved["suite"], grid, folder, share) for share, suite in suites.items()
    ]
    if resolved["bounds"] is not None:
        show_curves(resolved["suite"], grid, folder)
    if not grid.rank:
        with wandb_finished():
            loggers = _loggers(resolved, folder, sha)
            for run in filter(None, runs):
                send_evaluation(loggers, run)


def _print_missing_references(resolved: Mapping[str, Any], known: Mapping[str, Path]) -> None:
    for network in references(resolved).keys() - known.keys():
        epochs = resolved["dataset"]["reference_recipe"]["epochs"]
        print(f"{network} would be fitted first, once, in {epochs} epochs, which is not counted here", flush=True)


def _trained_on(resolved: Mapping[str, Any], suites: Iterable[AttackSuite]) -> list[str] | None:
    """Return the given names of threat models, or None; with `allow`, names of the user's own classes pass, too.

    Raises:
        UserError: no threat model has that name.
    """
    given = resolved["trained_on"]
    if given is None:
        return None
    names = [str(name) for name in (given if isinstance(given, list) else [given])]
    if not resolved["allow"]:
        own: set[str] = set()
        for suite in suites:
            own |= {entry.threat_model.name for entry in suite.entries.values()}
        check_names(names, "trained_on", own)
    return names


def _ready(config: dict[str, Any], known: Mapping[str, Path]) -> dict[str, Any]:
    """Return the config with the weights of its references; a missing one is replaced by an unfitted network."""
    ready: dict[str, Any] = without_weights(with_references(config, known))
    return ready


def _forecast(
    model_under_test: ModelUnderTest,
    suites: Mapping[float | None, AttackSuite],
    name: str,
    grid: Grid,
    folder: RunFolder,
) -> None:
    """Show the cost of every suite, in one process."""
    if grid.rank:
        return
    for share, suite in suites.items():
        forecast(model_under_test, suite, at_share(name, share), grid, folder)


def _loggers(resolved: dict[str, Any], folder: RunFolder, sha: str) -> list[Logger]:
    """Build the loggers of an evaluation. On a dashboard it is a run of its own, identified by weights and suite."""
    names, suite = resolved["names"], resolved["suite"]
    name = f"{read_card(folder.path).name.replace('/', '-')}-{suite}"
    identity = {"name": name, "group": names["dataset"], "run_id": digest([sha, suite])[:16], "job_type": "evaluate"}
    return build_loggers(resolved, folder.path, identity)


def _complete_from_run(config: DictConfig, run: RunFolder | None) -> None:
    """Take dataset and model from the checkpoint's run folder or card; a model given by the user is kept."""
    if run is None:
        _complete_from_card(config)
        missing = [choice for choice in ("dataset", "model") if config[choice] is None]
        if missing and Path(config.checkpoint).is_file():
            needed = " and ".join(f"{choice}=…" for choice in missing)
            raise UserError(f"{config.checkpoint} does not lie in a run folder: say what it is with {needed}")
        if missing:
            raise UserError(f"no checkpoint at {config.checkpoint}: give a run folder or a weights file")
        return
    known = run.config()
    location = {} if config.dataset is None else {key: config.dataset.get(key) for key in WAYS_TO_DATA}
    if config.dataset is not None and not config.dataset.keys() <= set(WAYS_TO_DATA):
        given = config.names.dataset
        what = "a part of the dataset" if given is None else f"dataset={given}"
        raise UserError(f"{what} was given, but {run.path} brings its own dataset: leave it out")
    with open_dict(config):
        known["dataset"] |= {key: value for key, value in location.items() if value is not None}
        config.dataset, config.names.dataset = known["dataset"], known["names"]["dataset"]
        config.outputs = config.outputs or known["outputs"]
        if config.model is None:
            config.model, config.names.model = known["model"], known["names"]["model"]


def _complete_from_card(config: DictConfig) -> None:
    """Take the model of converted weights and its `trained_on` from the card beside them."""
    weights = Path(config.checkpoint)
    if config.model is not None or not weights.is_file():
        return
    file = card_of(weights)
    if not file.is_file():
        return
    card = read_json(file)
    if not isinstance(card, dict) or not {"sha256", "model", "node", "trained_on"} <= card.keys():
        return
    if card["sha256"] != digest_of(weights):
        raise UserError(f"{file} is the card of other weights than {weights}: convert them again, or say model=…")
    with open_dict(config):
        config.model, config.names.model = card["node"], card["model"]
        config.trained_on = card["trained_on"] if config.trained_on is None else config.trained_on


def _check_data(folder: RunFolder, fingerprint: str) -> None:
    """Refuse a folder that holds records on other images."""
    file = folder.path / "card.json"
    if file.exists() and (known := read_json(file)["fingerprint"]) != fingerprint:
        raise UserError(
            f"{folder.path} holds records on other images (fingerprint {known[:12]}…, these have {fingerprint[:12]}…):"
            f" choose another outputs=<folder>"
        )


def _card(resolved: dict[str, Any], checkpoint: Path, home: Path | None, sha: str, data: ImageData) -> Card:
    known = read_card(home) if home and (home / "card.json").exists() else None
    trained_on = resolved["trained_on"]
    if trained_on is None and known:
        trained_on = known.trained_on
    # the run's own weights and model, evaluated in another folder
    if known and known.checkpoint == sha and known.model == resolved["names"]["model"]:
        return replace(known, trained_on=trained_on)
    return Card(
        name=checkpoint.name,
        dataset=resolved["names"]["dataset"],
        model=resolved["names"]["model"],
        defense=None,
        seed=None,
        trained_on=trained_on,
        checkpoint=sha,
        fingerprint=data.fingerprint,
        task=data.task.name,
    )

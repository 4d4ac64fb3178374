"""`train.py`: one training run, then its evaluation."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    StochasticWeightAveraging,
    Timer,
)
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig

from gauntlet.callbacks import KeepResumable
from gauntlet.cluster.group import group
from gauntlet.cluster.ranks import check_processes, settle_processes
from gauntlet.config.build import (
    build_classifier,
    build_data,
    build_defense,
    build_loggers,
    build_reference,
    build_suite,
    build_training_data,
    rehearse_training,
)
from gauntlet.config.compose import check_named_row, check_plain_words, check_root, digest_of, plain, regime_of
from gauntlet.config.instantiate import check_targets, instantiate
from gauntlet.config.parts import check_training_parts, expect_kind
from gauntlet.data import ImageData
from gauntlet.defenses import Defense
from gauntlet.errors import UserError
from gauntlet.evaluation import Card, ModelUnderTest
from gauntlet.evaluation.logits import recognised
from gauntlet.loggers import MetricsCSV, wandb_finished
from gauntlet.models.weights import digest_of as file_digest
from gauntlet.models.weights import load_weights, read_weights, reason_of, save_weights
from gauntlet.reports.dashboard import send_evaluation
from gauntlet.runs.baseline import with_baseline
from gauntlet.runs.evaluation import build_calibrated, build_grid, device_of, run_suite
from gauntlet.runs.folder import RunFolder
from gauntlet.runs.references import fitted, with_references, without_weights
from gauntlet.terminal import encodable


def train(config: DictConfig) -> None:
    """Check everything, train or resume training, evaluate what is missing."""
    resolved = plain(config)
    check_training_parts(resolved)
    resolved["outputs"] = str(Path(resolved["outputs"]).absolute())
    check_plain_words(resolved)
    check_named_row(resolved)
    check_targets(resolved, resolved["allow"])
    folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    if not resolved["restart"]:
        folder.check(resolved)
    check_root(resolved)
    data = build_training_data(resolved, build_data(resolved))
    if not resolved["restart"]:
        folder.check_data(data.training_fingerprint)
    classifier = build_classifier(resolved, data, resolved["seed"])
    with folder.locked() if _is_rank_zero() else contextlib.nullcontext(), wandb_finished():
        trainer = build_trainer(resolved, folder, digest_of(config))
        check_steps(data, trainer.world_size)
        rehearse_training(resolved, classifier, data, trainer.world_size)
        # everything is checked with unfitted references before the real ones are fitted
        unfitted = without_weights(resolved)
        build_defense(unfitted, classifier, data)
        build_suite(unfitted, classifier, data)
        grid = build_grid(resolved["evaluation"], trainer.global_rank, trainer.world_size)
        device = device_of(resolved["evaluation"]["device"])
        calibrated = build_calibrated(resolved["evaluation"])
        with_weights = with_references(resolved, fitted(resolved, data))
        defense = build_defense(with_weights, classifier, data)
        suite = build_suite(with_weights, classifier, data)
        reference = build_reference(with_weights, data)
        if _is_rank_zero():
            if resolved["restart"]:
                folder.move_aside()
            folder.begin(resolved, data.training_fingerprint)
        last = KeepResumable.file(folder.path)
        if resolved["restart"]:  # other ranks may still see the checkpoint that the first one moves aside
            _fit(trainer, defense, data, folder, None)
        elif not folder.weights.exists():
            _fit(trainer, defense, data, folder, last if last.exists() else None)
        load_weights(classifier, read_weights(folder.weights), folder.weights)
        checkpoint = file_digest(folder.weights)
        if _is_rank_zero():
            _card(resolved, defense, checkpoint, data).write(folder.path)
        model_under_test = ModelUnderTest(
            classifier.to(device),
            checkpoint,
            data.splits.test,
            data.fingerprint,
            reference,
            calibrated,
            task=data.task,
        )
        model_under_test = recognised(model_under_test, folder.records, group())
        suite = with_baseline(suite, resolved, grid, model_under_test, folder)
        run = run_suite(model_under_test, suite, resolved["suite"], grid, folder)
        if run is not None:
            send_evaluation(trainer.loggers, run)


def _is_rank_zero() -> bool:
    """Return whether this process has rank 0, also before the trainer is built."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def build_trainer(resolved: Mapping[str, Any], folder: RunFolder, digest: str) -> Trainer:
    """Build the trainer with its callbacks and loggers.

    Args:
        resolved: the config.
        folder: run folder.
        digest: of the config; the run's id on a dashboard.

    Raises:
        UserError: an argument or a callback would make the result depend on more than the config.
    """
    settle_processes(resolved["trainer"].get("devices"), resolved["trainer"].get("num_nodes", 1))
    nodes = {name: node for name, node in (resolved.get("callbacks") or {}).items() if node is not None}
    callbacks = {name: instantiate(node, f"callbacks.{name}") for name, node in nodes.items()}
    _check_callbacks(callbacks)
    if taken := sorted({"callbacks", "logger", "default_root_dir"} & resolved["trainer"].keys()):
        raise UserError(f"trainer.{taken[0]}: callbacks are callbacks.<name>=…, loggers logger=…, folders outputs=…")
    trainer = instantiate(
        resolved["trainer"],
        "trainer",
        callbacks=list(callbacks.values()),
        logger=_loggers(resolved, folder, digest),
        default_root_dir=folder.path,
    )
    expect_kind(trainer, Trainer, "trainer")
    assert isinstance(trainer, Trainer)
    _check_trainer(resolved["trainer"], trainer)
    return trainer


_REFUSED: dict[type, str] = {
    GradientAccumulationScheduler: "a step is a batch: change dataset.recipe.batch_size instead",
    StochasticWeightAveraging: "it has a schedule of its own: callbacks=averaging averages weights along training",
    Timer: "the end of training may not depend on the machine: change dataset.recipe.epochs instead",
    BatchSizeFinder: "training is a function of its config: say dataset.recipe.batch_size=… instead",
    LearningRateFinder: "training is a function of its config: say optimizer.lr=… instead",
}
"""Callbacks whose result would depend on where a run is stopped, and what to do instead."""


def _check_callbacks(callbacks: Mapping[str, Any]) -> None:
    """Refuse objects that are no callbacks, and callbacks that break the order of examples or the schedule."""
    for name, callback in callbacks.items():
        if not isinstance(callback, Callback):
            raise UserError(f"callbacks.{name} is a {type(callback).__name__}: expected a Lightning callback")
        for kind, instead in _REFUSED.items():
            if isinstance(callback, kind):
                raise UserError(f"callbacks.{name} is {type(callback).__name__}: {instead}")


_ORDER = {
    "accumulate_grad_batches": 1,
    "limit_train_batches": 1.0,
    "overfit_batches": 0,
    "max_steps": -1,
    "max_time": None,
    "fast_dev_run": False,
    "use_distributed_sampler": False,
}
"""Arguments of the trainer, and the values with which an epoch is every batch once."""


def _check_trainer(node: Mapping[str, Any], trainer: Trainer) -> None:
    """Refuse arguments that silently break the order of examples, the schedule, or a sweep."""
    broken = [key for key, required in _ORDER.items() if node.get(key, required) != required]
    if broken or (trainer.max_epochs or 0) < 1:
        raise UserError(
            f"trainer.{(broken or ['max_epochs'])[0]}: training is whole epochs, at least one, a step a batch:"
            f" change dataset.recipe.batch_size or dataset.recipe.epochs instead"
        )
    if node.get("inference_mode", True):
        raise UserError("trainer.inference_mode=true: attacks in validation need gradients; leave it at false")
    check_processes(trainer.num_devices, trainer.num_nodes)
    environment = getattr(trainer.strategy, "cluster_environment", None)
    spawns = environment is None or not environment.creates_processes_externally
    if HydraConfig.get().mode is RunMode.MULTIRUN and trainer.world_size > 1 and spawns:
        raise UserError(
            f"a sweep of {trainer.world_size} processes a job would start the whole sweep in each of them:"
            f" add hydra/launcher=local or hydra/launcher=slurm, which start them one by one, or use trainer.devices=1"
        )


def check_steps(data: ImageData, world: int) -> None:
    """Refuse more processes than a step has examples."""
    if not len(data.batches(lambda: 0, 0, world)):
        raise UserError(
            f"{len(data.splits.train)} training images for {world} processes: expected at least one for each;"
            f" use fewer with trainer.devices=… and trainer.num_nodes=…"
        )


def _loggers(resolved: Mapping[str, Any], folder: RunFolder, digest: str) -> list[Logger]:
    """Build the loggers: always the CSV file; others identify the run by the digest of its config."""
    names = resolved["names"]
    title = f"{regime_of(resolved)}-{names['model']}-seed{resolved['seed']}"
    identity = {"name": title, "group": names["dataset"], "run_id": digest[:16]}
    return [MetricsCSV(folder.path), *build_loggers(resolved, folder.path, identity)]


def _fit(trainer: Trainer, defense: Defense, data: ImageData, folder: RunFolder, resume: Path | None) -> None:
    """Train from a checkpoint or from the start, then save the trained weights."""
    last = KeepResumable.file(folder.path)
    last.parent.mkdir(parents=True, exist_ok=True)
    for temporary in last.parent.glob(f".{last.name}.*"):  # of a process killed while it saved
        temporary.unlink(missing_ok=True)
    if resume:
        _check_whole(resume)
        print(f"going on from {os.path.relpath(resume)}", flush=True)
    try:
        trainer.fit(defense, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit as stop:  # Lightning ends so after a signal, with exit codes 0 and 1
        interrupted = isinstance(stop.__context__, KeyboardInterrupt)
        if not interrupted and not isinstance(stop, SIGTERMException):
            raise  # a job that queues itself again: the launcher reads the exit code
        _stop(signal.SIGINT if interrupted else signal.SIGTERM)
    except Exception:
        if _was_stopped(trainer):
            _stop(signal.SIGTERM)
        raise
    if trainer.is_global_zero:
        save_weights(defense.classifier, folder.weights)
    trainer.strategy.barrier()


def _was_stopped(trainer: Trainer) -> bool:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return any(isinstance(callback, KeepResumable) and callback.stop_requested for callback in callbacks)


def _stop(number: signal.Signals) -> NoReturn:
    print("training was stopped; the same command goes on from the last checkpoint", flush=True)
    sys.exit(128 + number)


def _check_whole(checkpoint: Path) -> None:
    """Refuse a damaged checkpoint in one line. Its tensors are mapped only; Lightning reads them later."""
    mapped = encodable(str(checkpoint), "utf-8") == str(checkpoint)  # torch cannot map a file with another name
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged pickle raises anything
        reason = reason_of(error, checkpoint)
        raise UserError(f"{checkpoint} is damaged ({reason}): remove it to train from the start") from None


def _card(resolved: Mapping[str, Any], defense: Defense, checkpoint: str, data: ImageData) -> Card:
    names = resolved["names"]
    return Card(
        name=f"{regime_of(resolved)}/{names['model']}/seed{resolved['seed']}",
        dataset=names["dataset"],
        model=names["model"],
        defense=names["defense"],
        seed=resolved["seed"],
        trained_on=defense.trained_on,
        checkpoint=checkpoint,
        fingerprint=data.fingerprint,
        task=data.task.name,
    )

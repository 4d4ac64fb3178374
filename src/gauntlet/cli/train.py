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
from gauntlet.data import ImageData
from gauntlet.defenses import Defense
from gauntlet.errors import UserError
from gauntlet.evaluation import Card, ModelUnderTest
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
    """Check everything, train or go on training, evaluate what is missing."""
    whole = plain(config)
    whole["outputs"] = str(Path(whole["outputs"]).absolute())
    check_plain_words(whole)
    check_named_row(whole)
    check_targets(whole, whole["allow"])
    folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    if not whole["restart"]:
        folder.check(whole)
    check_root(whole)
    data = build_training_data(whole, build_data(whole))
    if not whole["restart"]:
        folder.check_data(data.training_fingerprint)
    classifier = build_classifier(whole, data, whole["seed"])
    with folder.locked() if _leads() else contextlib.nullcontext(), wandb_finished():
        trainer = _trainer(whole, folder, digest_of(config))
        _check_steps(data, trainer.world_size)
        rehearse_training(whole, classifier, data, trainer.world_size)
        bare = without_weights(whole)  # whatever can be refused is refused before anything is fitted
        build_defense(bare, classifier, data)
        build_suite(bare, classifier, data)
        grid = build_grid(whole["evaluation"], trainer.global_rank, trainer.world_size)
        device = device_of(whole["evaluation"]["device"])
        calibrated = build_calibrated(whole["evaluation"])
        whole_with_weights = with_references(whole, fitted(whole, data))
        defense = build_defense(whole_with_weights, classifier, data)
        suite = build_suite(whole_with_weights, classifier, data)
        reference = build_reference(whole_with_weights, data)
        if _leads():
            if whole["restart"]:
                folder.move_aside()
            folder.begin(whole, data.training_fingerprint)
        last = KeepResumable.file(folder.path)
        if whole["restart"]:  # other ranks may still see what the first one is moving aside
            _fit(trainer, defense, data, folder, None)
        elif not folder.weights.exists():
            _fit(trainer, defense, data, folder, last if last.exists() else None)
        load_weights(classifier, read_weights(folder.weights), folder.weights)
        checkpoint = file_digest(folder.weights)
        if _leads():
            _card(whole, defense, checkpoint, data).write(folder.path)
        model_under_test = ModelUnderTest(
            classifier.to(device),
            checkpoint,
            data.splits.test,
            data.fingerprint,
            reference,
            calibrated,
            task=data.task,
        )
        suite = with_baseline(suite, whole, grid, model_under_test, folder)
        run = run_suite(model_under_test, suite, whole["suite"], grid, folder)
        if run is not None:
            send_evaluation(trainer.loggers, run)


def _leads() -> bool:
    """Whether this is the process of rank 0, also before there is a trainer."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def _trainer(whole: Mapping[str, Any], folder: RunFolder, digest: str) -> Trainer:
    settle_processes(whole["trainer"].get("devices"), whole["trainer"].get("num_nodes", 1))
    nodes = {name: node for name, node in (whole["callbacks"] or {}).items() if node is not None}
    callbacks = {name: instantiate(node, f"callbacks.{name}") for name, node in nodes.items()}
    _check_callbacks(callbacks)
    if taken := sorted({"callbacks", "logger", "default_root_dir"} & whole["trainer"].keys()):
        raise UserError(f"trainer.{taken[0]}: callbacks are callbacks.<name>=…, loggers logger=…, folders outputs=…")
    trainer = instantiate(
        whole["trainer"],
        "trainer",
        callbacks=list(callbacks.values()),
        logger=_loggers(whole, folder, digest),
        default_root_dir=folder.path,
    )
    assert isinstance(trainer, Trainer)
    _check_trainer(whole["trainer"], trainer)
    return trainer


_REFUSED: dict[type, str] = {
    GradientAccumulationScheduler: "a step is a batch: change dataset.recipe.batch_size instead",
    StochasticWeightAveraging: "it has a schedule of its own: callbacks=averaging averages weights along training",
    Timer: "where training ends may not depend on the machine: change dataset.recipe.epochs instead",
    BatchSizeFinder: "training is a function of its config: say dataset.recipe.batch_size=… instead",
    LearningRateFinder: "training is a function of its config: say optimizer.lr=… instead",
}
"""Callbacks whose runs would not come out the same wherever they are stopped, and what to do instead."""


def _check_callbacks(callbacks: Mapping[str, Any]) -> None:
    """Refuse what is no callback, and what would break the order of examples or the schedule."""
    for name, callback in callbacks.items():
        if not isinstance(callback, Callback):
            raise UserError(f"callbacks.{name} is a {type(callback).__name__}: expected a Lightning callback")
        for kind, way in _REFUSED.items():
            if isinstance(callback, kind):
                raise UserError(f"callbacks.{name} is {type(callback).__name__}: {way}")


_ORDER = {
    "accumulate_grad_batches": 1,
    "limit_train_batches": 1.0,
    "overfit_batches": 0,
    "max_steps": -1,
    "max_time": None,
    "fast_dev_run": False,
    "use_distributed_sampler": False,
}
"""Arguments of the trainer, and the value that leaves training whole."""


def _check_trainer(node: Mapping[str, Any], trainer: Trainer) -> None:
    """Refuse what would silently break the order of examples, the schedule, or a sweep."""
    broken = [key for key, whole in _ORDER.items() if node.get(key, whole) != whole]
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


def _check_steps(data: ImageData, world: int) -> None:
    """Refuse so many processes that no step has an example for each."""
    if not len(data.batches(lambda: 0, 0, world)):
        raise UserError(
            f"{len(data.splits.train)} training images for {world} processes: expected at least one for each;"
            f" use fewer with trainer.devices=… and trainer.num_nodes=…"
        )


def _loggers(whole: Mapping[str, Any], folder: RunFolder, digest: str) -> list[Logger]:
    """The CSV file always; others know the run by the digest of its config."""
    names = whole["names"]
    title = f"{regime_of(whole)}-{names['model']}-seed{whole['seed']}"
    identity = {"name": title, "group": names["dataset"], "run_id": digest[:16]}
    return [MetricsCSV(folder.path), *build_loggers(whole, folder.path, identity)]


def _fit(trainer: Trainer, defense: Defense, data: ImageData, folder: RunFolder, resume: Path | None) -> None:
    """Train from a checkpoint, or from the start; the trained weights appear only when all is done."""
    last = KeepResumable.file(folder.path)
    last.parent.mkdir(parents=True, exist_ok=True)
    for scrap in last.parent.glob(f".{last.name}.*"):
        scrap.unlink(missing_ok=True)
    if resume:
        _check_whole(resume)
        print(f"going on from {os.path.relpath(resume)}", flush=True)
    try:
        trainer.fit(defense, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit as stop:  # Lightning's way to end after a signal, whose own exit codes are 0 and 1
        interrupted = isinstance(stop.__context__, KeyboardInterrupt)
        if not interrupted and not isinstance(stop, SIGTERMException):
            raise  # a job that queues again: the exit code is its launcher's
        _stop(signal.SIGINT if interrupted else signal.SIGTERM)
    except Exception:
        if any(isinstance(each, KeepResumable) and each.told_to_stop for each in trainer.callbacks):  # type: ignore[attr-defined]
            _stop(signal.SIGTERM)
        raise
    if trainer.is_global_zero:
        save_weights(defense.classifier, folder.weights)
    trainer.strategy.barrier()


def _stop(why: signal.Signals) -> NoReturn:
    print("training was stopped; the same command goes on from the last checkpoint", flush=True)
    sys.exit(128 + why)


def _check_whole(checkpoint: Path) -> None:
    """Refuse a damaged checkpoint in one line. Its tensors are mapped and not read: Lightning reads them."""
    mapped = encodable(str(checkpoint), "utf-8") == str(checkpoint)  # torch maps no file whose name is not UTF-8
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged pickle raises anything
        reason = reason_of(error, checkpoint)
        raise UserError(f"{checkpoint} is damaged ({reason}): remove it to train from the start") from None


def _card(whole: Mapping[str, Any], defense: Defense, checkpoint: str, data: ImageData) -> Card:
    names = whole["names"]
    return Card(
        name=f"{regime_of(whole)}/{names['model']}/seed{whole['seed']}",
        dataset=names["dataset"],
        model=names["model"],
        defense=names["defense"],
        seed=whole["seed"],
        trained_on=defense.trained_on,
        checkpoint=checkpoint,
        fingerprint=data.fingerprint,
        task=data.task.name,
    )

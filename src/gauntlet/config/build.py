"""Build the objects of a run from its resolved config; try each on one example before anything expensive begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gauntlet.acceleration import channels_last
from gauntlet.config.compose import WAYS_TO_DATA
from gauntlet.config.instantiate import instantiate
from gauntlet.config.parts import expect_kind
from gauntlet.config.rehearsal import rehearse_attack, rehearse_entry, rehearse_saving, rehearse_step
from gauntlet.data import ImageData, Mixed, Source, Step, TrainingExamples
from gauntlet.defenses import AdversarialDefense, Defense
from gauntlet.distances import LPIPS
from gauntlet.errors import UserError, first_line
from gauntlet.evaluation import AttackSuite
from gauntlet.evaluation.suite_of_task import check_task
from gauntlet.models import outputs_for
from gauntlet.scopes import evaluating


def build_data(config: Mapping[str, Any]) -> ImageData:
    """Build the dataset. `dataset.root` and `dataset.workers` are where and how it is read, not part of its identity.

    Raises:
        UserError: shape or classes of the config differ from those of the images, or the augmentation fails.
    """
    dataset = config["dataset"]
    recipe = dataset.get("recipe") or {}
    given = {"batch_size": recipe.get("batch_size", 1), "seed": config.get("seed", 0)}
    given |= {key: dataset[key] for key in WAYS_TO_DATA if dataset.get(key) is not None}
    module = dict(dataset["module"])
    # passed as nodes, because Hydra turns dataclass objects given to it into dicts
    if augmentation := dataset.get("augmentation"):
        module["augmentation"] = [node for node in augmentation.values() if node is not None]
    classes = dataset["classes"]
    if not isinstance(classes, int) or classes < 2:
        raise UserError(f"dataset.classes is {classes}: expected how many a classifier tells apart, at least 2")
    data = instantiate(module, "dataset.module", **given)
    expect_kind(data, ImageData, "dataset.module")
    assert isinstance(data, ImageData)
    try:
        shape = list(data.splits.test.shape)
    except ValueError as error:
        raise UserError(f"dataset: {first_line(error)}") from error
    if shape != list(dataset["shape"]):
        raise UserError(f"dataset.shape is {dataset['shape']}, its images are {shape}: write that")
    ranges = [data.task.class_range(split.labels) for split in data.splits if len(split)]
    if (last := max((high for _, high in ranges), default=0)) >= classes:
        raise UserError(f"dataset.classes is {classes}, the labels of its images run up to {last}: write {last + 1}")
    _rehearse_augmentation(data, 0)
    return data


def build_training_data(config: Mapping[str, Any], data: ImageData) -> ImageData:
    """Return the dataset with the second source of `dataset.extra`, if there is one, in its training batches."""
    extra = config["dataset"].get("extra")
    if extra is None:
        return data
    unknown = sorted(extra.keys() - {"source", "share", *WAYS_TO_DATA})
    if unknown or not {"source", "share", "root"} <= extra.keys():
        raise UserError(f"dataset.extra has {sorted(extra)}: expected source, root and share, and workers if you like")
    source = instantiate(extra["source"], "dataset.extra.source", root=extra["root"])
    if not isinstance(source, Source):
        raise UserError(f"dataset.extra.source is {type(source).__name__}: expected ArrayFile or PictureFolder")
    try:
        others = source.load(data.splits.train.shape, config["dataset"]["classes"])
        mixed = Mixed(data, others, extra["share"], extra.get("workers") or 0)
    except (ValueError, TypeError) as error:
        raise UserError(f"dataset.extra: {first_line(error)}") from error
    _rehearse_augmentation(mixed, len(data.splits.train))
    return mixed


def _rehearse_augmentation(data: ImageData, row: int) -> None:
    """Augment one training image; raise `UserError` in one line if that fails."""
    try:
        TrainingExamples(data.training_split, data.augmentation, data.seed).__getitems__(Step(0, [row]))
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"dataset.augmentation: {first_line(error)}") from error


def build_classifier(config: Mapping[str, Any], data: ImageData, seed: int) -> nn.Module:
    """Build the classifier. Its initial weights depend on the seed only."""
    torch.manual_seed(seed)
    classifier = instantiate(config["model"], "model")
    if not isinstance(classifier, nn.Module):
        raise UserError(f"model is a {type(classifier).__name__}: expected a torch.nn.Module")
    outputs, classes = rehearse(classifier, data, "the model"), config["dataset"]["classes"]
    if data.task.classes(outputs) != classes:
        raise UserError(f"the model gives {list(outputs.shape)} for one image: expected {data.task.form(1, classes)}")
    return channels_last(classifier)


def rehearse_training(config: Mapping[str, Any], classifier: nn.Module, data: ImageData, world: int) -> None:
    """Train a second classifier for one step, then load the weights of the first into it.

    The first classifier and the global random state stay unchanged.

    Args:
        config: resolved.
        classifier: from `build_classifier`.
        data: the training data.
        world: number of processes that share a step.

    Raises:
        UserError: the classifier cannot be trained, or what is trained could not be saved.
    """
    rows = list(range(min(2, data.batches(lambda: 0, 0, world).smallest())))
    batch = TrainingExamples(data.training_split, data.augmentation, data.seed).__getitems__(Step(0, rows))
    with torch.random.fork_rng():
        torch.manual_seed(config["seed"] ^ 1)
        twin = channels_last(instantiate(config["model"], "model"))
        rehearse_step(twin, batch, data.task)
        rehearse_saving(classifier, twin, data.splits.test[0].images, data.task)


def build_defense(config: Mapping[str, Any], classifier: nn.Module, data: ImageData) -> Defense:
    """Build the training regime, and run one example through each of its attacks."""
    node = {key: value for key, value in config["defense"].items() if key != "row"}
    defense = instantiate(node, "defense", classifier=classifier, seed=config["seed"])
    expect_kind(defense, Defense, "defense")
    assert isinstance(defense, Defense)
    defense.task = data.task
    _rehearse_schedule(defense, len(data.batches(lambda: 0)))
    if isinstance(defense, AdversarialDefense):
        for name, attack, batch in defense.rehearsals(data.splits.test[0]):
            rehearse_attack(attack, classifier, batch, f"defense attacks with {name}", data.task)
    return defense


def _rehearse_schedule(defense: Defense, steps_per_epoch: int) -> None:
    """Make the optimizer and its schedule as training does.

    Raises:
        UserError: the error of either in one line.
    """
    try:
        optimizer = defense.optimizer_of(defense.classifier.parameters())
    except Exception as error:  # classes of a library or of the user raise anything
        raise UserError(f"optimizer: {first_line(error)}") from error
    expect_kind(optimizer, Optimizer, "optimizer")
    for key, value in optimizer.defaults.items():
        if isinstance(value, float) and not isfinite(value):
            raise UserError(f"optimizer.{key} is {value}: expected a finite number")
    try:
        schedule = defense.schedule_of(optimizer, steps_per_epoch=steps_per_epoch)
    except Exception as error:  # as above
        raise UserError(f"schedule: {first_line(error)}") from error
    expect_kind(schedule, LRScheduler, "schedule")


def build_suite(config: Mapping[str, Any], classifier: nn.Module, data: ImageData) -> AttackSuite:
    """Build the attack suite, and run one example through each of its entries."""
    suite = instantiate(config["attack_suite"], "attack_suite")
    expect_kind(suite, AttackSuite, "attack_suite")
    assert isinstance(suite, AttackSuite)
    check_task(suite, data.task)
    for name, entry in suite.entries.items():
        group = "certificates" if name in suite.certificates else "attacks"
        rehearse_entry(entry, classifier, data.splits.test[0], f"attack_suite.{group}.{name}", data.task)
    return suite


def build_reference(config: Mapping[str, Any], data: ImageData) -> LPIPS | None:
    """Build the dataset's own distance, for the column `perceptual`; None where it has none."""
    node = config["dataset"].get("reference")
    if node is None:
        return None
    reference = instantiate(node, "dataset.reference")
    if not isinstance(reference, LPIPS):
        raise UserError(f"dataset.reference is {type(reference).__name__}: expected the LPIPS of a fixed network")
    images = data.splits.test[0].images
    try:
        reference.embed(images)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"dataset.reference {_unsupported(reference.embed, images, error)}") from error
    return reference


@torch.no_grad()
def rehearse(network: nn.Module, data: ImageData, what: str) -> torch.Tensor:
    """Return the outputs for one test image.

    Raises:
        UserError: in one line, which images the network takes instead.
    """
    images = data.splits.test[0].images
    try:
        with evaluating(network):
            outputs = outputs_for(data.task, network, images)
    except UserError:
        raise
    except Exception as error:  # a foreign network may raise any exception
        raise UserError(f"{what} {_unsupported(network, images, error)}") from error
    return outputs


_SIZES = (28, 32, 48, 64, 96, 128, 224, 256, 299, 384)


def _unsupported(network: Callable[[torch.Tensor], Any], images: torch.Tensor, error: Exception) -> str:
    """Say that a network cannot take images, and which shape it takes: a library's error is about its layers."""
    accepted = _accepted_shape(network, images)
    others = first_line(error) if accepted is None else f"but takes {accepted}"
    return f"cannot take the dataset's {list(images.shape[1:])} images ({others}): choose one that does"


def _accepted_shape(network: Callable[[torch.Tensor], Any], images: torch.Tensor) -> list[int] | None:
    """Return the first of some usual shapes `[C, H, W]` that the network accepts."""
    channels, height, width = images.shape[1:]
    sizes = [(height, width), *((size, size) for size in _SIZES)]
    for count in dict.fromkeys((channels, 3, 1)):
        for size in sizes:
            if _accepts(network, images.new_zeros(1, count, *size)):
                return [count, *size]
    return None


def _accepts(network: Callable[[torch.Tensor], Any], images: torch.Tensor) -> bool:
    try:
        with evaluating(network) if isinstance(network, nn.Module) else nullcontext():
            network(images)
    except Exception:  # a foreign network may raise any exception
        return False
    return True


def build_loggers(config: Mapping[str, Any], folder: Path, identity: Mapping[str, str]) -> list[Logger]:
    """Build the loggers of the config.

    Args:
        config: resolved.
        folder: run folder.
        identity: name, group and id of the run, see `gauntlet.loggers.wandb_logger`.
    """
    nodes = (config.get("logger") or {}).items()
    return [instantiate(node, f"logger.{name}", folder=folder, **identity) for name, node in nodes]

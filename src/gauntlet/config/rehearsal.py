"""Try attacks, a training step, saving and loading on one or two images before anything expensive begins."""

from __future__ import annotations

from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from gauntlet.attacks import Attack
from gauntlet.data import Batch
from gauntlet.defenses.outputs import outputs_of
from gauntlet.errors import UserError, first_line
from gauntlet.evaluation import Entry
from gauntlet.kinds import Kind
from gauntlet.models import outputs_for
from gauntlet.models.border import raw_output
from gauntlet.models.weights import checked, load_weights, weights_bytes
from gauntlet.noise import Noise
from gauntlet.scopes import evaluating
from gauntlet.task import CLASSIFICATION, DecidingTask, Task
from gauntlet.varied import shortened


def rehearse_attack(
    attack: Attack, classifier: nn.Module, batch: Batch, what: str, task: Task = CLASSIFICATION
) -> None:
    """Run a shortened attack on a batch; where it cannot be shortened, build its region only.

    The predictions of a task that has some replace the labels: an attack does not search for an example that is
    misclassified already.

    Raises:
        UserError: the attack's error in one line.
    """
    try:
        with evaluating(classifier):
            with torch.no_grad():
                attack.threat_model.around(batch, classifier)
                if isinstance(task, DecidingTask):
                    predictions = task.predict(outputs_for(task, classifier, batch.images))
                    batch = batch._replace(labels=predictions)
            if (short := shortened(attack)) is not None:
                short.run(classifier, batch, Noise(batch.ids))
    except Exception as error:  # classes of the user raise anything
        raise UserError(f"{what}: {first_line(error)}") from error


def rehearse_entry(entry: Entry, classifier: nn.Module, batch: Batch, what: str, task: Task = CLASSIFICATION) -> None:
    """Run an entry of a suite on a batch; attacks and certificates are shortened where they can be.

    Raises:
        UserError: the entry's error in one line.
    """
    call: Any = entry
    if entry.kind in (Kind.ATTACK, Kind.MINIMUM_DISTANCE):
        rehearse_attack(call, classifier, batch, what, task)
        return
    noise = Noise(batch.ids)
    try:
        if entry.kind is Kind.TRANSFORM:
            call(batch, noise)
        else:
            with evaluating(classifier), torch.no_grad():
                (shortened(call) or call)(classifier, batch.images, noise)
    except Exception as error:  # classes of the user raise anything
        raise UserError(f"{what}: {first_line(error)}") from error


def rehearse_step(network: nn.Module, batch: Batch, task: Task = CLASSIFICATION) -> None:
    """Run forward and backward of a training step. This changes the network's mode, buffers and gradients.

    Raises:
        UserError: the network's error in one line, or its output in train mode has no loss.
    """
    count = len(batch.labels)
    try:
        with torch.enable_grad():
            outputs = outputs_of(raw_output(network.train(), batch.images), task)
            losses = [task.loss(logits, batch.labels).mean() for logits in (outputs.logits, *outputs.auxiliary)]
            torch.stack(losses).sum().backward()
    except UserError as error:
        raise UserError(f"model: {error}") from None
    except Exception as error:  # a foreign network may raise any exception
        hint = "set dataset.recipe.batch_size to more" if count == 1 else "choose another model"
        images = "one image" if count == 1 else f"{count} images"
        raise UserError(f"the model cannot be trained on {images} at once ({first_line(error)}): {hint}") from error


def rehearse_saving(network: nn.Module, twin: nn.Module, images: Tensor, task: Task = CLASSIFICATION) -> None:
    """Save the network's weights, load them into a second network of the same config, and compare the outputs.

    Raises:
        UserError: saving or loading fails, or the logits differ.
    """
    tensors = checked(safetensors.torch.load(weights_bytes(network)), "the model")
    load_weights(twin, tensors, "the model")
    outputs = []
    for model in (network, twin):
        torch.manual_seed(0)
        with evaluating(model), torch.no_grad():
            outputs.append(outputs_for(task, model, images))
    if not outputs[1].allclose(outputs[0], rtol=1e-4, atol=1e-5, equal_nan=True):
        raise UserError(
            "the model answers otherwise once its weights were saved and loaded into a new one: a part of it is in no"
            " parameter and in no buffer of its state dict, or its answers are random; register what it needs with"
            " register_buffer"
        )

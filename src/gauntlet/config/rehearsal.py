"""What is tried on an image or two before anything expensive begins: attacks, a training step, saving and loading."""

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
from gauntlet.models.border import answer_of
from gauntlet.models.weights import checked, load_weights, weights_bytes
from gauntlet.noise import Noise
from gauntlet.scopes import evaluating
from gauntlet.task import CLASSIFICATION, DecidingTask, Task
from gauntlet.varied import shortened


def rehearse_attack(
    attack: Attack, classifier: nn.Module, batch: Batch, what: str, task: Task = CLASSIFICATION
) -> None:
    """The attack, as short as it can be, on a batch; of one that does not say how long it is, the region alone.

    Whatever the labels are, the predictions of a task that decides stand in for them: an example that is wrong from
    the start would show nothing.

    Raises:
        UserError: in one line, what the attack said.
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
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{what}: {first_line(error)}") from error


def rehearse_entry(entry: Entry, classifier: nn.Module, batch: Batch, what: str, task: Task = CLASSIFICATION) -> None:
    """An entry of a suite, whatever its kind, on a batch: an attack as above, a certificate as short as it can be.

    Raises:
        UserError: in one line, what the entry said.
    """
    work: Any = entry
    if entry.kind in (Kind.ATTACK, Kind.MINIMUM_DISTANCE):
        rehearse_attack(work, classifier, batch, what, task)
        return
    noise = Noise(batch.ids)
    try:
        if entry.kind is Kind.TRANSFORM:
            work(batch, noise)
        else:
            with evaluating(classifier), torch.no_grad():
                (shortened(work) or work)(classifier, batch.images, noise)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{what}: {first_line(error)}") from error


def rehearse_step(network: nn.Module, batch: Batch, task: Task = CLASSIFICATION) -> None:
    """A training step without an optimizer; the network is not what it was.

    Raises:
        UserError: in one line, what the network said, or that its answer in train mode is none to train on.
    """
    count = len(batch.labels)
    try:
        with torch.enable_grad():
            outputs = outputs_of(answer_of(network.train(), batch.images), task)
            losses = [task.loss(logits, batch.labels).mean() for logits in (outputs.logits, *outputs.auxiliary)]
            torch.stack(losses).sum().backward()
    except UserError as error:
        raise UserError(f"model: {error}") from None
    except Exception as error:  # a network of somebody else's raises anything
        way = "set dataset.recipe.batch_size to more" if count == 1 else "choose another model"
        images = "one image" if count == 1 else f"{count} images"
        raise UserError(f"the model cannot be trained on {images} at once ({first_line(error)}): {way}") from error


def rehearse_saving(network: nn.Module, twin: nn.Module, images: Tensor, task: Task = CLASSIFICATION) -> None:
    """The network's weights are saved, and loaded into another network that was built as it was.

    Raises:
        UserError: they cannot be, or the other one then answers otherwise.
    """
    tensors = checked(safetensors.torch.load(weights_bytes(network)), "the model")
    load_weights(twin, tensors, "the model")
    outputs = []
    for one in (network, twin):
        torch.manual_seed(0)
        with evaluating(one), torch.no_grad():
            outputs.append(outputs_for(task, one, images))
    if not outputs[1].allclose(outputs[0], rtol=1e-4, atol=1e-5, equal_nan=True):
        raise UserError(
            "the model answers otherwise once its weights were saved and loaded into a new one: a part of it is in no"
            " parameter and in no buffer of its state dict, or its answers are random; register what it needs with"
            " register_buffer"
        )

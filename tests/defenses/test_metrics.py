"""Logged means against torchmetrics: of ragged batches, of every epoch anew, of several processes."""

import json

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import multiclass_accuracy

from gauntlet.data import Batch
from gauntlet.defenses import NormalTraining
from tests.defenses.processes import on_two_processes

SIZES = [5, 3, 2]
"""Of batches: the first two are those of one process, the last is the other's."""


class ByBrightness(torch.nn.Module):
    """Predicts the class nearest to ten times the brightness of an image, until its bias changes."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(10))

    def forward(self, images):
        return self.bias - (10 * images.mean((1, 2, 3))[:, None] - torch.arange(10)).abs()


def ragged(sizes):
    """Batches of these sizes whose images show their classes; of every three the first has another label."""
    batches, first = [], 0
    for size in sizes:
        ids = torch.arange(first, first + size)
        images = (ids % 10 / 10).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
        batches.append(Batch(images, (ids + (ids % 3 == 0)) % 10, ids))
        first += size
    return batches


def training():
    return NormalTraining(
        classifier=ByBrightness(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=3.0),
        schedule=lambda optimizer, steps_per_epoch: torch.optim.lr_scheduler.ConstantLR(optimizer),
    )


def quiet(tmp_path, **options):
    return Trainer(
        accelerator="cpu",
        inference_mode=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def accuracy_of(classifier, batches):
    logits = torch.cat([classifier(batch.images) for batch in batches]).detach()
    return multiclass_accuracy(logits, torch.cat([batch.labels for batch in batches]), 10, average="micro").item()


def test_validation_is_torchmetrics_accuracy_over_ragged_batches_of_every_epoch_anew(tmp_path):
    batches, defense, actual, expected = ragged([5, 3, 1]), training(), [], []
    defense.on_validation_epoch_end = lambda: expected.append(accuracy_of(defense.classifier, batches))
    defense.on_train_epoch_end = lambda: actual.append(defense.trainer.callback_metrics["val/accuracy"].item())
    loader = DataLoader(batches, batch_size=None)
    quiet(tmp_path, max_epochs=3, num_sanity_val_steps=0).fit(defense, loader, loader)
    assert len(set(expected)) > 1
    assert actual == pytest.approx(expected)
    assert not any("means" in key for key in defense.state_dict())


IN_TWO_PROCESSES = """
import json, sys
from pathlib import Path
from torch.utils.data import DataLoader
from tests.defenses.test_metrics import SIZES, quiet, ragged, training
folder = Path(sys.argv[1])
trainer = quiet(folder, devices=2, strategy="ddp")
own = ragged(SIZES)[:2] if trainer.global_rank == 0 else ragged(SIZES)[2:]
(metrics,) = trainer.validate(training(), DataLoader(own, batch_size=None), verbose=False)
(folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(metrics))
"""


def test_the_accuracy_of_two_processes_is_that_of_all_their_examples(tmp_path):
    """Not the mean of the means of processes, which have eight and two."""
    on_two_processes(IN_TWO_PROCESSES, tmp_path)
    expected = accuracy_of(ByBrightness(), ragged(SIZES))
    for rank in (0, 1):
        metrics = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert metrics["val/accuracy"] == pytest.approx(expected)

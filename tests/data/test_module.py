"""The loaders of every dataset: on the device, augmented, resumed within an epoch, the same under two ranks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import nn

from gauntlet.data import ColourJitter, Digits, Examples, RandomCrop, RandomFlip
from gauntlet.data.examples import held_out, unit

AUGMENTATION = [RandomCrop(3), RandomFlip(), ColourJitter(0.2, 0.2, 0.2)]


class Watching(LightningModule):
    """Trains one number and records its batches."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.shown, self.validated = [], []

    def training_step(self, batch, batch_idx):
        self.shown.append((self.global_step, batch.ids.tolist(), batch.images.sum().item(), batch.images.device))
        return self.weight * batch.images.mean()

    def validation_step(self, batch, batch_idx):
        self.validated += batch.ids.tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def fit(folder, data, epochs, checkpoint=None, **trainer):
    watching = Watching()
    trainer = Trainer(
        **{"accelerator": "cpu", "max_epochs": epochs, "logger": False, "enable_progress_bar": False, **trainer},
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
    )
    trainer.fit(watching, datamodule=data, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return watching, trainer


class Stop(Callback):
    """Saves a checkpoint after a step and stops training as a power cut would."""

    class Out(BaseException):
        """An exception that nothing catches."""

    def __init__(self, after, file):
        self.after, self.file = after, file

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.after:
            trainer.save_checkpoint(self.file)
            raise self.Out


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_a_resume_within_an_epoch_gives_the_remaining_augmented_batches(tmp_path, stop):
    """1,300 digits in batches of 400: four steps an epoch."""
    file = tmp_path / "stopped.ckpt"
    whole, _ = fit(tmp_path, Digits(400, augmentation=AUGMENTATION), 2)
    with pytest.raises(Stop.Out):
        fit(tmp_path, Digits(400, augmentation=AUGMENTATION), 2, callbacks=[Stop(stop, file)])
    rest, _ = fit(tmp_path, Digits(400, augmentation=AUGMENTATION), 2, checkpoint=file)
    assert rest.shown == whole.shown[stop:]
    assert len({total for _, _, total, _ in whole.shown}) == len(whole.shown) == 8


def test_validation_is_complete_and_not_augmented(tmp_path):
    data = Digits(50, augmentation=AUGMENTATION)
    watching, _ = fit(tmp_path, data, 1)
    assert watching.validated == data.splits.validation.ids.tolist()


def test_moving_examples_keeps_their_digest():
    split = Digits().splits.validation
    assert split.to(torch.device("cpu")).digest() == split.digest()
    assert isinstance(split.to(torch.device("cpu")), Examples)


def test_bytes_are_divided_exactly():
    levels = torch.arange(256, dtype=torch.uint8)
    assert unit(levels).equal(torch.arange(256) / 255)
    assert unit(levels)[255] == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is False")
def test_on_a_gpu_examples_are_kept_there_and_augmented_alike(tmp_path):
    levels = torch.arange(256, dtype=torch.uint8)
    assert unit(levels.cuda()).cpu().equal(unit(levels))
    here, _ = fit(tmp_path, Digits(400, augmentation=AUGMENTATION), 1)
    there, _ = fit(tmp_path, Digits(400, augmentation=AUGMENTATION), 1, accelerator="cuda", devices=1)
    for (step, ids, total, _), (other_step, other_ids, other, device) in zip(here.shown, there.shown, strict=True):
        assert (step, ids) == (other_step, other_ids)
        assert device.type == "cuda"
        assert other == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("count", [1000, 20_000])
def test_the_share_held_out_is_a_function_of_each_id(count):
    ids = torch.randperm(10 * count, generator=torch.Generator().manual_seed(count))[:count]
    held = held_out(ids, 0.1)
    assert 0.08 < held.float().mean() < 0.12
    order = torch.randperm(count)
    assert held_out(ids[order], 0.1).equal(held[order])
    assert held_out(ids[: count // 2], 0.1).equal(held[: count // 2])


def test_at_least_one_is_held_out_and_one_is_left():
    assert held_out(torch.arange(3), 1e-6).sum() == 1
    assert held_out(torch.arange(3), 1 - 1e-6).sum() == 2
    assert all(1 <= held_out(torch.arange(2) + 2 * first, 0.5).sum() <= 1 for first in range(50))
    with pytest.raises(ValueError, match="too few"):
        held_out(torch.arange(1), 0.5)
    with pytest.raises(ValueError, match="0 training images: too few"):
        held_out(torch.arange(0), 0.5)
    for share in (0, 1, -0.1, 2):
        with pytest.raises(ValueError, match="expected the share"):
            held_out(torch.arange(9), share)


TWO_RANKS = """
import json, sys
from lightning.pytorch.strategies import DDPStrategy
from tests.data.test_module import AUGMENTATION, fit
from gauntlet.data import Digits
watching, trainer = fit(sys.argv[1], Digits(200, augmentation=AUGMENTATION), 1, devices=2, strategy="ddp")
open(f"{sys.argv[1]}/rank{trainer.global_rank}.json", "w").write(json.dumps([shown[:3] for shown in watching.shown]))
"""


@pytest.mark.slow
def test_two_ranks_get_the_examples_of_one(tmp_path):
    (tmp_path / "two.py").write_text(TWO_RANKS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    subprocess.run([sys.executable, tmp_path / "two.py", tmp_path], check=True, env=environment, timeout=300)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    alone, _ = fit(tmp_path, Digits(400, augmentation=AUGMENTATION), 1)
    for (step, ids, total, _), (_, ids0, total0), (_, ids1, total1) in zip(alone.shown, *ranks, strict=True):
        assert ids == ids0 + ids1
        assert total0 + total1 == pytest.approx(total, rel=1e-6), step

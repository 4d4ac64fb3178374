"""Training that is stopped and resumed ends with the weights of an uninterrupted run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import polars.selectors as cs
import pytest
import torch
from lightning import Callback
from safetensors.torch import load_file

from gauntlet.cli.train import build_trainer
from tests.conftest import QUICK

WORDS = (
    *("defense=pat_self", "defense.attack.steps=2", "dataset.recipe.batch_size=200", "trainer.max_epochs=3"),
    *("attack_suite=clean", "callbacks.resume.every_seconds=0", *QUICK),
)
STEPS = 7  # per epoch: 1,300 examples in batches of 200


class PullThePlug(Callback):
    """Stops the process as a power cut would, without any signal handler."""

    class Out(BaseException):
        """An exception that nothing catches."""

    def __init__(self, after: int, where: str) -> None:
        self.after, self.where = after, where

    def on_train_batch_start(self, trainer, *_):
        self._pull(trainer, "start")

    def on_train_batch_end(self, trainer, *_):
        self._pull(trainer, "end")

    def on_validation_end(self, trainer, *_):
        self._pull(trainer, "validation")

    def _pull(self, trainer, where):
        if trainer.global_step == self.after and where == self.where:
            raise self.Out


def plugged(patched, *callbacks):
    """Give training callbacks that are not in its config."""

    def with_callbacks(*given):
        trainer = build_trainer(*given)
        trainer.callbacks += callbacks
        return trainer

    patched.setattr("gauntlet.cli.train.build_trainer", with_callbacks)


def final(outputs: Path) -> dict[str, torch.Tensor]:
    (file,) = outputs.glob("digits/*/*/checkpoints/final.safetensors")
    return load_file(file)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def measured(metrics):
    """All logged values except the speed."""
    return pl.read_csv(metrics).drop(cs.starts_with("speed/"))


@pytest.fixture(scope="module")
def uninterrupted(fitted, tmp_path_factory):
    """The weights and the metrics of an uninterrupted run."""
    outputs = tmp_path_factory.mktemp("uninterrupted")
    (outputs / "references").symlink_to(fitted / "references")
    subprocess.run([sys.executable, "train.py", *WORDS, f"outputs={outputs}"], check=True, capture_output=True)
    (metrics,) = outputs.glob("digits/*/*/metrics.csv")
    return final(outputs), measured(metrics)


@pytest.mark.parametrize(
    ("after", "where"),
    [(3, "start"), (3, "end"), (STEPS, "end"), (STEPS, "validation"), (STEPS, "start"), (2 * STEPS + 5, "end")],
)
def test_resuming_after_a_power_cut_gives_the_same_weights(door, outputs, uninterrupted, after, where, monkeypatch):
    folder = f"hydra.run.dir={outputs}/digits/a/b"
    with monkeypatch.context() as patched:
        plugged(patched, PullThePlug(after, where))
        with pytest.raises(PullThePlug.Out):
            door("train", *WORDS, f"outputs={outputs}", folder)
    assert not list(outputs.glob("digits/*/*/checkpoints/final.safetensors"))
    result = door("train", *WORDS, f"outputs={outputs}", folder)
    assert result.code == 0, result.err
    weights, metrics = uninterrupted
    assert same(final(outputs), weights)
    again = measured(outputs / "digits/a/b/metrics.csv")
    assert again.equals(metrics, null_equal=True)


STOPPING = (
    *("defense=normal", "dataset.recipe.batch_size=200", "trainer.max_epochs=4", "attack_suite=clean", *QUICK),
    "+callbacks.stop._target_=lightning.pytorch.callbacks.EarlyStopping",
    *("+callbacks.stop.monitor=val/accuracy", "+callbacks.stop.mode=max", "+callbacks.stop.stopping_threshold=0.01"),
)


def cut(*_):
    raise PullThePlug.Out


def test_training_that_a_callback_has_ended_is_not_resumed_after_a_power_cut(door, outputs, monkeypatch):
    """The last checkpoint exists, the trained weights do not yet."""
    with monkeypatch.context() as patched:
        patched.setattr("gauntlet.cli.train.save_weights", cut)
        with pytest.raises(PullThePlug.Out):
            door("train", *STOPPING, f"outputs={outputs}")
    assert not list(outputs.glob("digits/*/*/checkpoints/final.safetensors"))
    (last,) = outputs.glob("digits/*/*/checkpoints/last.ckpt")
    kept = torch.load(last, weights_only=True)
    assert kept["global_step"] == STEPS
    assert kept["training_ended"]
    result = door("train", *STOPPING, f"outputs={outputs}")
    assert result.code == 0, result.err
    assert "going on from" in result.out
    assert "epoch 2/4" not in result.out
    actual = final(outputs)
    assert all(kept["state_dict"][f"classifier.{name}"].equal(tensor) for name, tensor in actual.items())


def test_an_early_stopped_run_differs_from_the_plain_one(door, outputs):
    """Another folder, another name, other weights; the plain run trains for all of its epochs."""
    assert door("train", *STOPPING, f"outputs={outputs}").code == 0
    result = door("train", *STOPPING[:-4], f"outputs={outputs}")
    assert result.code == 0, result.err
    assert "epoch 4/4" in result.out
    cards = [json.loads(file.read_text()) for file in outputs.glob("digits/*/*/card.json")]
    assert sorted(card["name"] for card in cards) == [
        "normal+EarlyStopping/small_resnet/seed0",
        "normal/small_resnet/seed0",
    ]
    assert cards[0]["checkpoint"] != cards[1]["checkpoint"]
    steps = {torch.load(file, weights_only=True)["global_step"] for file in outputs.glob("digits/*/*/*/last.ckpt")}
    assert steps == {STEPS, 4 * STEPS}


@pytest.mark.parametrize(("blow", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_killed_process_resumes_to_the_same_weights(outputs, uninterrupted, blow, code):
    command = [sys.executable, "train.py", *WORDS, f"outputs={outputs}"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    deadline = time.monotonic() + 120
    while not list(outputs.glob("digits/*/*/checkpoints/last.ckpt")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(blow)
    assert process.wait(timeout=60) == code
    assert not list(outputs.glob("digits/*/*/checkpoints/final.safetensors"))
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "going on from" in done.stdout
    assert same(final(outputs), uninterrupted[0])

"""What all tests share: no W&B, front doors that run in this process, one small trained run."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

torch.set_num_threads(1)  # tests are small: two threads waiting for each other on a busy machine take ten times as long
os.environ["OMP_NUM_THREADS"] = "1"  # for processes that tests start
os.environ["WANDB_MODE"] = "disabled"
os.environ["HYDRA_FULL_ERROR"] = ""

QUICK = ("logger=csv", "trainer=cpu", "evaluation.examples=40", "evaluation.chunk=20", "model.width=4")
"""Overrides that keep a run to seconds."""


def own_environment() -> dict[str, str]:
    """Of a process of its own: what doors that ran here before left behind is not in it."""
    return {name: value for name, value in os.environ.items() if name not in ("HYDRA_FULL_ERROR", "WANDB_SERVICE")}


class Said(NamedTuple):
    """What a front door left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def door(monkeypatch, capfd):
    """Call a front door as from the command line: `door("train", "defense=normal")`."""

    def call(name: str, *words: str) -> Said:
        from gauntlet.cli import main as doors

        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        capfd.readouterr()
        try:
            getattr(doors, name)()
            code = 0
        except SystemExit as stop:
            code = stop.code
        return Said(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def fitted(tmp_path_factory) -> Path:
    """An output folder with a reference network that saw too few epochs: enough to be a network."""
    from gauntlet.config.compose import CONF
    from gauntlet.data import Digits
    from gauntlet.models import alexnet_cifar
    from gauntlet.models.weights import save_weights
    from gauntlet.runs.references import reference_folder

    outputs = tmp_path_factory.mktemp("fitted")
    digits = yaml.safe_load((CONF / "dataset" / "digits.yaml").read_text())
    config = {"names": {"dataset": "digits"}, "dataset": digits, "outputs": outputs}
    place = reference_folder(config, "alexnet_cifar", Digits())
    torch.manual_seed(0)
    save_weights(alexnet_cifar(10), place / "checkpoints" / "final.safetensors")
    return outputs


@pytest.fixture
def outputs(fitted, tmp_path) -> Path:
    """An output folder of this test's own, with the reference network in it."""
    place = tmp_path / "outputs"
    place.mkdir()
    (place / "references").symlink_to(fitted / "references")
    return place


@pytest.fixture(scope="session")
def trained(fitted, tmp_path_factory) -> Path:
    """A finished run folder: normal training, three epochs. Copy it before changing it."""
    from gauntlet.cli import main as doors

    outputs = tmp_path_factory.mktemp("trained")
    (outputs / "references").symlink_to(fitted / "references")
    before = sys.argv
    sys.argv = ["train.py", "defense=normal", "trainer.max_epochs=3", f"outputs={outputs}", *QUICK]
    try:
        doors.train()
    finally:
        sys.argv = before
    return next(outputs.glob("digits/*/*"))


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the finished run folder, in an output folder with the reference network."""
    place = tmp_path / "outputs" / "digits" / "normal" / trained.name
    shutil.copytree(trained, place)
    (tmp_path / "outputs" / "references").symlink_to(trained.parents[2] / "references")
    return place

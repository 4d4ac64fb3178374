"""The main job at its real size: `python train.py defense=pat_alexnet`, from nothing."""

import subprocess
import sys

import pytest

from gauntlet.reports import read_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def train(outputs, *words):
    return subprocess.Popen(
        [sys.executable, "train.py", *words, "logger=csv", f"outputs={outputs}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("main") / "outputs"


@pytest.fixture(scope="module")
def messages(outputs):
    """The output of two simultaneous runs on a machine without a reference network."""
    runs = [train(outputs, "defense=pat_alexnet"), train(outputs, "defense=normal")]
    messages = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], messages
    return messages


def row(outputs, defense):
    (card,) = outputs.glob(f"digits/{defense}-*/*/card.json")
    return read_run(card.parent, "quick")


def test_one_of_two_runs_fits_the_reference_network_and_both_use_it(outputs, messages):
    assert sum("fitting the perceptual network alexnet_cifar" in text for text in messages) == 1
    assert len(list(outputs.glob("references/*/*/card.json"))) == 1


def test_perceptual_training_beats_normal_training_clearly(outputs, messages):
    """On the union and under every attack; normal training has no robustness."""
    pat, normal = row(outputs, "pat_alexnet"), row(outputs, "normal")
    assert pat.cells["union"].low > normal.cells["union"].high + 0.3
    assert pat.cells["clean"].value > 0.9
    assert normal.cells["clean"].value > 0.95
    for attack in ("linf", "l2", "perceptual"):
        assert pat.cells[attack].low > normal.cells[attack].high
        assert normal.cells[attack].value < 0.1
    assert pat.violations == normal.violations == 0

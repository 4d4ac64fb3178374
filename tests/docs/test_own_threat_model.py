"""The guide to an own threat model, run unchanged: files, script and commands, with fewer epochs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gauntlet
from gauntlet.evaluation import read_run
from tests.docs import pages

GUIDE = Path(__file__).parents[2] / "docs" / "own_threat_model.md"
FEW = ("evaluation.examples=20", "evaluation.chunk=20")
SMALL = {
    "train": (
        "logger=csv",
        "trainer=cpu",
        "model.width=4",
        "trainer.max_epochs=1",
        "dataset.recipe.batch_size=130",
        *FEW,
    ),
    "evaluate": FEW,
    "report": (),
}
SOURCES = Path(gauntlet.__file__).parents[1]

pytestmark = pytest.mark.skipif(not GUIDE.exists(), reason="no docs in this installation")


def blocks():
    return pages.blocks(GUIDE)


def run(command, folder):
    """Run a part of the guide in its folder; the commands on the path are ours, with `SMALL` added."""
    doors = folder / ".doors"
    doors.mkdir(exist_ok=True)
    for name, words in SMALL.items():
        code = f"import sys; sys.path.insert(0, '{SOURCES}'); from gauntlet.cli.main import {name}; {name}()"
        script = doors / f"gauntlet-{name}"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@" {" ".join(words)}\n')
        script.chmod(0o755)
    paths = {"PATH": f"{doors}:{os.environ['PATH']}", "PYTHONPATH": f"{folder}:{SOURCES}"}
    messages = subprocess.run(command, cwd=folder, env=os.environ | paths, capture_output=True, text=True)
    assert messages.returncode == 0, f"{messages.stdout}\n{messages.stderr}"
    return messages.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory, fitted):
    """A user's folder with the files of the guide, and a reference network so that none has to be fitted."""
    path = tmp_path_factory.mktemp("user")
    for block in blocks():
        if block.file:
            (path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (path / block.file).write_text(block.text)
    (path / "outputs").mkdir()
    (path / "outputs" / "references").symlink_to(fitted / "references")
    return path


def test_the_guide_has_one_file_and_one_yaml_for_the_threat_model():
    assert [block.file for block in blocks() if block.file] == [
        "shadows.py",
        "conf/threat_model/shadow.yaml",
        "conf/attack_suite/shadow.yaml",
    ]
    assert len([block for block in blocks() if not block.file]) == 3  # the look at its promises; two of commands


def test_its_threat_model_passes_the_checks(folder):
    (script,) = [block.text for block in blocks() if block.language == "python" and not block.file]
    assert "largest size" in run([sys.executable, "-c", script], folder)


@pytest.mark.slow
def test_its_commands_train_against_it_measure_it_and_put_it_in_one_table(folder):
    """Own files only: nothing under Gauntlet's conf knows the name."""
    commands = [block.text for block in blocks() if block.language == "sh"]
    result = run(["bash", "-euo", "pipefail", "-c", "\n".join(commands)], folder)
    assert re.search(r"run +┃ +union", result), result
    runs = {
        defense: read_run(next((folder / "outputs" / "digits").glob(f"{defense}-*/*")), "shadow")
        for defense in ("at", "normal", "at_linf")
    }
    assert all(run.complete and not run.violations for run in runs.values())
    assert all(run.plan.entries["shadow"].bound == 0.8 for run in runs.values())
    assert runs["at"].members("unseen mean") == ["linf"]
    assert runs["at_linf"].members("unseen mean") == ["shadow"]
    darkened = runs["normal"].records["shadow"]
    assert darkened["inside"].all()
    assert darkened["linf"].max() > 0.3  # it did reach for the shade

"""What asks for no tensor imports no torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import gauntlet
from tests.reports.folders import Distances, Radii, answers, make_run

_HEAVY = ("torch", "lightning", "torchvision", "scipy", "matplotlib", "wandb")
_COMMAND = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps([name for name in {heavy!r} if name in sys.modules]), file=sys.stderr))
sys.argv = {words!r}
import importlib
getattr(importlib.import_module({module!r}), {function!r})()
"""


def imported(tmp_path, module, function, *words):
    """Of the heavy packages, those that a command imports."""
    code = _COMMAND.format(heavy=_HEAVY, words=[function, *words], module=module, function=function)
    environment = {"PYTHONPATH": str(Path(gauntlet.__file__).parents[1]), "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stderr.splitlines()[-1])


@pytest.mark.parametrize("door", ["train", "evaluate", "report"])
def test_help_needs_no_torch(tmp_path, door):
    assert imported(tmp_path, "gauntlet.cli.main", door, "--help") == []


@pytest.mark.parametrize(
    ("door", "words"),
    [
        ("train", ["defense=pat_alexnet"]),
        ("evaluate", ["checkpoint=run", "attack_suite=quick"]),
        ("report", ["runs=x"]),
    ],
)
def test_a_config_is_shown_without_torch(tmp_path, door, words):
    assert imported(tmp_path, "gauntlet.cli.main", door, "--cfg", "job", *words) == []


def test_the_state_of_a_sweep_needs_no_torch(tmp_path):
    run = tmp_path / "outputs" / "digits" / "normal-small_resnet" / "seed0-1"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("dataset: {recipe: {epochs: 4}}\nmodel: {}\nnames: {defense: normal}\n")
    (run / "metrics.csv").write_text("step,epoch,train/loss\n9,1,0.5\n")
    (run / "error.json").write_text('{"error": "no memory"}\n')
    assert imported(tmp_path, "gauntlet.status", "main", "outputs") == []


def test_tables_plots_and_pages_of_runs_need_no_torch(tmp_path):
    correct = answers({"clean": 0.9, "linf": 0.5, "l2": 0.4}, 20)
    distances, radii = {"nearest": Distances([0.5] * 20)}, {"margin": Radii([0.25] * 20)}
    for seed in range(2):
        name = f"normal/small_resnet/seed{seed}"
        make_run(tmp_path / "runs" / f"seed{seed}", correct, distances=distances, radii=radii, name=name)
    words = ("runs=runs", "suite=paper", "against=runs/seed0", "folder=report")
    assert not {"torch", "lightning", "torchvision"} & {*imported(tmp_path, "gauntlet.cli.main", "report", *words)}
    assert (tmp_path / "report" / "report.html").exists()

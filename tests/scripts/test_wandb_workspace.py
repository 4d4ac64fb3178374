"""The workspace plots what runs really log: keys against a training's metrics, a report's summary, an offline run."""

import builtins
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import gauntlet
from gauntlet.config.compose import CONF, register_resolvers
from gauntlet.evaluation import read_run
from gauntlet.reports.dashboard import summary

script = pytest.importorskip("scripts.wandb_workspace", reason="no scripts in this installation")

SMALL = ("trainer=cpu", "trainer.max_epochs=1", "dataset.recipe.batch_size=130", "evaluation.examples=20")


@pytest.fixture
def workspace():
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is an extra")
    return script.build("someone", "gauntlet", "quick", script.attacks_of("quick"), script.aggregates_of("quick"))


def keys_of(workspace):
    """Everything that its panels plot: summary, curves, pictures."""
    panels = [panel["config"] for section in sections(workspace) for panel in section["panels"]]
    metrics = [metric for config in panels for metric in config.get("metrics", [])]
    messages = {metric.removeprefix("summary_metrics.") for metric in metrics if metric.startswith("summary_metrics.")}
    media = {key for config in panels for key in config.get("mediaKeys", [])}
    return messages, {metric for metric in metrics if not metric.startswith("summary_metrics.")}, media


def sections(workspace):
    return workspace._spec["spec"]["section"]["panelBankConfig"]["sections"]


@pytest.mark.parametrize("suite", sorted(file.stem for file in (CONF / "attack_suite").glob("*.yaml")))
def test_the_attacks_and_aggregates_of_a_suite_are_those_it_composes_to(suite):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["defense=normal", f"attack_suite={suite}"])
    assert script.attacks_of(suite) == list(config.attack_suite.get("attacks", []))  # none: columns come by another key
    assert script.aggregates_of(suite) == list(config.attack_suite.get("aggregates", []))


def test_a_suite_that_is_not_there_is_one_line():
    with pytest.raises(SystemExit, match=r"--suite nonsense: expected one of autoattack, .*--attacks"):
        script.attacks_of("nonsense")


def test_where_the_package_is_missing_one_line_says_so(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name.startswith("wandb_workspaces"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(SystemExit, match="pip install wandb-workspaces"):
        script.build("someone", "gauntlet", "quick", ["clean"], [])


def test_runs_are_grouped_by_sweep_and_by_type(workspace):
    grouping = json.dumps(workspace._spec["spec"]["section"]["runSets"][0]["grouping"])
    assert grouping.index('"group"') < grouping.index('"jobType"')


def test_its_bars_are_cells_and_its_curves_are_metrics_of_a_run(workspace, door, outputs):
    result = door("train", "defense=at_linf", "logger=csv", f"outputs={outputs}", *SMALL)
    assert result.code == 0, result.err
    (folder,) = outputs.glob("digits/*/*")
    messages, curves, _ = keys_of(workspace)
    cells = summary(read_run(folder, "quick"))
    assert messages == {key for key in cells if not key.endswith(("_low", "_high"))}  # no column is left out either
    with (folder / "metrics.csv").open(newline="") as stream:
        logged = set(csv.DictReader(stream).fieldnames)
    assert curves
    assert curves <= logged
    assert "epoch" in logged


@pytest.mark.slow
def test_every_key_is_in_an_offline_run(workspace, fitted, tmp_path):
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "references").symlink_to(fitted / "references")
    code = "from gauntlet.cli.main import train; train()"
    hidden = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "NETRC"}
    hidden |= {"HOME": str(tmp_path), "PYTHONPATH": str(Path(gauntlet.__file__).parents[1])}
    words = [sys.executable, "-c", code, "defense=at_linf", f"outputs={outputs}", *SMALL]
    done = subprocess.run(words, env=hidden, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    (path,) = outputs.glob("digits/*/*/wandb/offline-run-*")
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    records = subprocess.run(inspect, capture_output=True, text=True, env=hidden, check=True).stdout.splitlines()
    history = [record["history"]["item"] for record in map(json.loads, records) if "history" in record]
    logged = {key.removesuffix("._type") for item in history for key in item}
    summarised = subprocess.run([*inspect, "--summary"], capture_output=True, text=True, env=hidden, check=True).stdout
    messages, curves, media = keys_of(workspace)
    assert messages <= json.loads(summarised)["summary"].keys()
    assert curves | media | {script.STEP} <= logged
    assert media == {"quick/examples", "pictures/training"}

"""What is logged to W&B is read back from its offline files."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from gauntlet.cli import main as doors
from gauntlet.reports import read_run
from gauntlet.reports.dashboard import send_evaluation, summary
from tests.reports.folders import add_pictures, answers, make_run

ACCURACIES = {"clean": 0.9, "linf": 0.5, "l2": 0.6}


@pytest.fixture
def evaluated(folder):
    """A run of twenty examples with a sheet of pictures."""
    make_run(folder, answers(ACCURACIES, 20), name="at_linf/small_resnet/seed0", trained_on=["linf"])
    add_pictures(folder, rows=2)
    return folder


def inspected(offline_run, environment, *words):
    """What W&B's own reader says of an offline run."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", *words, "--json", str(offline_run)]
    read = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return read.stdout


@pytest.mark.slow
def test_an_offline_run_holds_numbers_tables_and_pictures_once(evaluated, tmp_path):
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from gauntlet.loggers import wandb_finished, wandb_logger
        from gauntlet.reports import read_run
        from gauntlet.reports.dashboard import send_evaluation
        folder = Path({str(evaluated)!r})
        for run_id, job in (("abc", "train"), ("abc", "train")):
            logger = wandb_logger(folder, project="p", name="n", group="g", run_id=run_id, job_type=job)
            with wandb_finished():
                send_evaluation([logger], read_run(folder, "paper"))
        """
    )
    hidden = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "NETRC"}
    hidden |= {"HOME": str(tmp_path), "WANDB_RUN_GROUP": "sweep-1"}
    done = subprocess.run([sys.executable, "-c", script], env=hidden, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (offline_run,) = evaluated.glob("wandb/offline-run-*-abc")  # the second time there was nothing new to say
    records = [json.loads(line) for line in inspected(offline_run, hidden).splitlines()]
    (about,) = (record["run"] for record in records if "run" in record)
    assert (about["run_group"], about["job_type"], about["run_id"]) == ("sweep-1", "train", "abc")
    run = read_run(evaluated, "paper")
    text = json.dumps(records)
    assert run.card.checkpoint in text
    assert run.digests["linf"] in text
    logged = json.loads(inspected(offline_run, hidden, "--summary"))["summary"]
    for name, value in summary(run).items():
        assert logged[name] == pytest.approx(value), name
    assert logged["paper/linf"] == 0.5
    tables = {file.name.split("_")[0]: json.loads(file.read_text()) for file in offline_run.rglob("*.table.json")}
    assert tables.keys() == {"accuracies", "distances", "overlaps"}
    columns = tables["accuracies"]["columns"]
    rows = {row[0]: dict(zip(columns, row, strict=True)) for row in tables["accuracies"]["data"]}
    assert rows["linf"]["value"] == 0.5
    assert rows["linf"]["bound"] == pytest.approx(8 / 255)
    assert sum(examples for _, examples in tables["overlaps"]["data"]) == 18
    assert len(list(offline_run.rglob("examples_*.png"))) == 1


def test_without_wandb_nothing_is_written(evaluated):
    before = set(evaluated.rglob("*"))
    send_evaluation([], read_run(evaluated, "paper"))
    assert set(evaluated.rglob("*")) == before


def test_the_jobs_of_a_sweep_share_a_group_and_the_user_has_the_last_word(monkeypatch):
    def group(*words, given=None):
        monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
        if given:
            monkeypatch.setenv("WANDB_RUN_GROUP", given)
        doors._name_sweep(["train.py", *words])
        return os.environ.get("WANDB_RUN_GROUP")

    sweep = group("-m", "seed=0,1")
    assert sweep.startswith("sweep-")
    assert group("-m", "seed=0,1") == sweep != group("-m", "seed=0,2")
    assert group("hydra/launcher=slurm", "seed=0,1", "-m", "hydra.sweeper.only=failed") == sweep
    assert group("seed=0") is None
    assert group("-m", "seed=0,1", given="mine") == "mine"
    monkeypatch.delenv("WANDB_RUN_GROUP")

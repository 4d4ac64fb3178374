"""`make table` is the paper's CIFAR-10 table in miniature: its rows in their order, its columns in theirs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from gauntlet.config.compose import CONF, plain, register_resolvers
from gauntlet.config.instantiate import instantiate
from gauntlet.evaluation import AttackSuite
from gauntlet.reports import read_published
from gauntlet.runs.references import without_weights
from tests.conftest import QUICK

PUBLISHED = read_published(CONF / "published" / "cifar10.yaml")
ROOT = Path(__file__).parents[2]


def makefile_rows(*words):
    if shutil.which("make") is None or not (ROOT / "Makefile").exists():
        pytest.skip("make, or the Makefile, is not here")
    result = subprocess.run(
        ["make", "-n", "table", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    train, report = result.split(" train.py ")[1].split(" report.py ")
    trained = re.search(r" defense=(\S+)", train)[1].split(",")
    shown = re.search(r"runs=\[(\S+)\]", report)[1].split(",")
    return trained, shown


@pytest.mark.parametrize("table", ["digits", "cifar10"])
def test_the_rows_are_the_paper_s(table):
    trained, shown = makefile_rows(f"TABLE={table}")
    assert trained == [row for row in PUBLISHED.rows if row != "manifold"]  # evaluated in the paper, never trained
    assert shown == [f"outputs/table/{table}/{row}-small_resnet" for row in trained]


@pytest.mark.parametrize("table", ["digits", "cifar10"])
def test_the_columns_are_the_paper_s(table):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"+experiment/miniature={table}", "defense=normal"], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    whole = without_weights(plain(config))
    assert (whole["names"]["dataset"], whole["suite"], whole["evaluation"]["examples"]) == (table, "miniature", 200)
    suite = instantiate(whole["attack_suite"])
    assert isinstance(suite, AttackSuite)
    assert list(suite.attacks) == list(PUBLISHED.attacks)
    assert [name for name in suite.union if name != "clean"] == list(PUBLISHED.union)
    assert suite.attacks["ppgd"].steps * suite.attacks["ppgd"].step_size == pytest.approx(2)  # as far as with 40 steps


@pytest.mark.slow
def test_two_rows_end_in_the_paper_s_layout(door, outputs, tmp_path):
    small = ("dataset.recipe.epochs=1", "dataset.recipe.batch_size=130", "evaluation.examples=20")
    words = ("+experiment/miniature=digits", "defense=at_linf,pat_self", f"outputs={outputs}", *QUICK, *small)
    result = door("train", "-m", *words)
    assert result.code == 0, result.err
    runs = ",".join(str(outputs / "digits" / f"{row}-small_resnet") for row in ("pat_self", "at_linf"))
    assert door("report", f"runs=[{runs}]", "suite=miniature", f"folder={tmp_path}").code == 0
    title, _, head, _, *lines = (tmp_path / "table.md").read_text().splitlines()
    columns = ["union", "unseen mean", "clean", "linf", "l2", "stadv", "recoloradv", "ppgd", "lpa"]
    assert title == "## digits, attack suite miniature, small_resnet, seed0"
    cells = [re.sub(r" [\d.]+$", "", cell.strip()) for cell in head.strip("|").split("|")]  # without the bounds
    assert cells == ["run", *columns]
    assert [line.split(" |")[0] for line in lines[:2]] == ["| pat_self", "| at_linf"]
    assert all(line.count("–") >= len(columns) for line in lines[:2])  # an interval in every cell

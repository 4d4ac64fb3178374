"""The fit of a reference network uses the same configs and modules as its run, also the user's own."""

import os
import shutil
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from gauntlet.config.compose import CONF, plain, register_resolvers
from gauntlet.runs.references import fit_command, fit_environment
from tests.conftest import QUICK


@pytest.fixture
def own(tmp_path):
    """A folder of configs with a dataset of the user's own."""
    (tmp_path / "own conf" / "dataset").mkdir(parents=True)
    (tmp_path / "own conf" / "dataset" / "mine.yaml").write_text("defaults: [digits]\nreference_recipe: {epochs: 1}\n")
    return tmp_path / "own conf"


def test_the_command_of_the_fit_composes_where_the_run_did(own, tmp_path):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = ["dataset=mine", "defense=pat_alexnet", f'hydra.searchpath=["file://{own}"]']
        config = compose("train", words, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        words = fit_command(plain(config), "alexnet_cifar", tmp_path / "fit")[4:]
        fit = compose("train", words, return_hydra_config=True)
    assert fit.hydra.runtime.choices.dataset == "mine"
    assert fit.hydra.runtime.choices["experiment/reference"] == "alexnet_cifar"
    assert fit.hydra.run.dir == str(tmp_path / "fit")
    assert fit.dataset.reference_recipe.epochs == 1


NAMES = {
    "letters of other languages": "Ünïcode home/Läufe",
    "bytes that are no UTF-8": os.fsdecode(b"l\xe4ufe"),
    "signs of the grammar": 'a "b" \\ ${c}, [d]=e',
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_the_fit_gets_every_path_unchanged(tmp_path, name):
    """Through the operating system, to another process, and through Hydra's grammar."""
    register_resolvers()
    folder, data = tmp_path / name / "fit", tmp_path / name / "data"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = plain(compose("train", ["dataset=cifar10", "defense=normal"]))
        config["outputs"], config["dataset"]["root"] = str(tmp_path / name), str(data)
        config["dataset"]["classes_of_mine"] = [{"of": name, "weights": [1, 2.5e-7, None, True]}, name]
        script = "import sys; print([ascii(word) for word in sys.argv[1:]])"
        words = fit_command(config, "alexnet_cifar", folder)[4:]
        result = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True
        ).stdout
        assert result == f"{[ascii(word) for word in words]}\n"
        fit = compose("train", words, return_hydra_config=True)
        actual = plain(fit)
    assert fit.hydra.run.dir == str(folder)
    assert (actual["outputs"], actual["dataset"]["root"]) == (str(tmp_path / name), str(data))
    assert actual["dataset"]["classes_of_mine"] == config["dataset"]["classes_of_mine"]


def test_the_fit_sees_the_environment_of_the_command_and_no_process_group(monkeypatch):
    mine = {"MY_DATA": "Ü", "SLURM_TMPDIR": "/scratch", "SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "MIG-1"}
    group = {"RANK": "0", "WORLD_SIZE": "2", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "TORCHELASTIC_RUN_ID": "x"}
    services = {"WANDB_SERVICE": "3-41234", "HYDRA_FULL_ERROR": "1"}
    for variable, value in (mine | group | services).items():
        monkeypatch.setenv(variable, value)
    seen = fit_environment()
    assert mine.items() <= seen.items()
    assert seen.keys().isdisjoint(group.keys() | services.keys())
    assert seen.keys() <= os.environ.keys() | {"PYTHONPATH"}


def test_the_fit_finds_the_modules_that_the_command_finds_and_no_others(monkeypatch, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "there" / "own_network.py").write_text("")
    (tmp_path / "here" / "elsewhere.py").write_text("")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend("../there")
    command = fit_command({"names": {"dataset": "digits"}, "dataset": {}, "allow": [], "outputs": "o"}, "x", tmp_path)
    script = "import own_network, importlib.util as u; print(u.find_spec('elsewhere'))"
    done = subprocess.run([*command[:2], "-c", script], env=fit_environment(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("None\n", "")


@pytest.mark.slow
def test_a_dataset_of_one_s_own_has_a_perceptual_network(door, own, tmp_path):
    small = ("trainer.max_epochs=1", "dataset.recipe.batch_size=130", "attack_suite=clean")
    outputs = tmp_path / "outputs"
    words = ("--config-dir", str(own), "dataset=mine", "defense=pat_alexnet", *QUICK, *small, f"outputs={outputs}")
    result = door("train", *words)
    assert result.code == 0, result.err
    assert len(list(outputs.glob("references/mine-*/*/card.json"))) == 1


def test_a_suite_is_checked_before_a_reference_is_fitted_for_its_evaluation(door, run, tmp_path):
    file = shutil.copy(run / "checkpoints" / "final.safetensors", tmp_path / "foreign.safetensors")
    own = ("dataset=digits", "model=small_resnet", f"outputs={tmp_path / 'new'}", "attack_suite=quick")
    words = [word for word in QUICK if not word.startswith("trainer")]
    command = door("evaluate", f"checkpoint={file}", *own, *words, "attack_suite.attacks.l2.threat_model.bound=-1")
    assert (command.code, len(command.err.strip().splitlines())) == (2, 1), command.err
    assert "attack_suite.attacks.l2.threat_model: " in command.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "word", ["~dataset.reference_recipe", "~dataset.reference_recipe.epochs", "~dataset.reference_recipe.drop_epochs"]
)
def test_a_dataset_without_a_recipe_for_its_reference_is_refused_in_a_line(door, tmp_path, word):
    command = door("train", "defense=pat_alexnet", word, f"outputs={tmp_path / 'outputs'}", *QUICK)
    assert (command.code, len(command.err.strip().splitlines())) == (2, 1), command.err
    assert "dataset.reference_recipe is missing or has no " in command.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    "recipe", ["epochs=0", "epochs=many", "batch_size=2.5", "learning_rate=nan", "drop_epochs=[x]", "drop_epochs=4"]
)
def test_a_recipe_that_cannot_be_followed_is_refused_in_a_line(door, tmp_path, recipe):
    command = door(
        "train",
        "defense=pat_alexnet",
        f"dataset.reference_recipe.{recipe}",
        f"outputs={tmp_path / 'outputs'}",
        *QUICK,
    )
    assert (command.code, len(command.err.strip().splitlines())) == (2, 1), command.err
    assert f"dataset.reference_recipe.{recipe.partition('=')[0]} is " in command.err
    assert not (tmp_path / "outputs").exists()

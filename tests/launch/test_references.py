"""The fit of a reference network finds what its run found: also configs that only the user has."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from gauntlet.launch.config import CONF, plain, register_resolvers
from gauntlet.launch.references import _command
from tests.conftest import QUICK


@pytest.fixture
def own(tmp_path):
    """A folder of configs with a dataset that Gauntlet does not know."""
    (tmp_path / "own conf" / "dataset").mkdir(parents=True)
    (tmp_path / "own conf" / "dataset" / "mine.yaml").write_text("defaults: [digits]\nreference_recipe: {epochs: 1}\n")
    return tmp_path / "own conf"


def test_the_command_of_the_fit_composes_where_the_run_did(own, tmp_path):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = ["dataset=mine", "defense=pat_alexnet", f'hydra.searchpath=["file://{own}"]']
        config = compose("train", words, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        words = _command(plain(config), "alexnet_cifar", tmp_path / "place")[3:]
        fit = compose("train", words, return_hydra_config=True)
    assert fit.hydra.runtime.choices.dataset == "mine"
    assert fit.hydra.runtime.choices["experiment/reference"] == "alexnet_cifar"
    assert fit.hydra.run.dir == str(tmp_path / "place")
    assert fit.dataset.reference_recipe.epochs == 1


@pytest.mark.slow
def test_a_dataset_of_one_s_own_has_a_perceptual_network(door, own, tmp_path):
    small = ("trainer.max_epochs=1", "dataset.recipe.batch_size=130", "attack_suite=clean")
    outputs = tmp_path / "outputs"
    words = ("--config-dir", str(own), "dataset=mine", "defense=pat_alexnet", *QUICK, *small, f"outputs={outputs}")
    said = door("train", *words)
    assert said.code == 0, said.err
    assert len(list(outputs.glob("references/mine-*/*/card.json"))) == 1

"""Every published row is one overlay that states the paper's recipe."""

import pytest
from hydra import compose, initialize_config_dir

from gauntlet.config.compose import CONF, register_resolvers

TABLES = ("cifar10", "imagenet100")
ROWS = sorted(f"{table}/{file.stem}" for table in TABLES for file in (CONF / "experiment" / table).glob("*.yaml"))
BOUNDS = {
    **{"cifar10/pat_self": 0.5, "cifar10/pat_alexnet": 1.0},
    **{"imagenet100/pat_self": 0.25, "imagenet100/pat_alexnet": 0.5},
}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_the_paper_s(row):
    register_resolvers()
    table, name = row.split("/")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"+experiment/{table}={name}"], return_hydra_config=True)
    chosen = config.hydra.runtime.choices
    assert (chosen.dataset, chosen.defense, chosen.attack_suite) == (table, name, table)
    assert chosen.model == {"cifar10": "resnet50", "imagenet100": "resnet50_imagenet"}[table]
    recipe = config.dataset.recipe
    published = {"cifar10": (100, 50, 2e-4, [75, 90]), "imagenet100": (90, 128, 1e-4, [30, 60, 80])}[table]
    assert (recipe.epochs, recipe.batch_size, recipe.weight_decay, recipe.drop_epochs) == published
    assert recipe.learning_rate == 0.1
    assert recipe.warmup_epochs == 5
    if row in BOUNDS:
        distance = chosen.distance
        assert config.dataset.train_bounds[distance] == BOUNDS[row]
        assert config.defense.attack.steps == 10
    if name == "at_all_random":
        assert len(config.defense.attacks) == {"cifar10": 4, "imagenet100": 5}[table]

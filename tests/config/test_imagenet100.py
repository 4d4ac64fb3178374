"""ImageNet-100 as its rows compose it: real photographs at 224 px, a ResNet-50, one training step, every attack."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from lightning import Trainer
from torch.utils.data import DataLoader

from gauntlet.config.build import build_classifier, build_data, build_defense, build_suite
from gauntlet.config.compose import CONF, plain, register_resolvers
from gauntlet.data import Batch, Examples, Step, TrainingExamples
from gauntlet.evaluation import Grid, evaluate
from gauntlet.scopes import evaluating
from tests.fixtures import shared_data

pytestmark = pytest.mark.slow

ROWS = sorted(file.stem for file in (CONF / "experiment" / "imagenet100").glob("*.yaml"))
SHORTENED = ("jpeg", "stadv", "recoloradv", "ppgd", "lpa")  # of the paper's 40 to 200 steps; AutoAttack is whole


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """One photograph of each class for training, the same ones for the test set."""
    folder = tmp_path_factory.mktemp("ilsvrc")
    for split in ("train", "val"):
        (folder / split).symlink_to(shared_data("imagenet", "imagenet100_one_per_class"), target_is_directory=True)
    return folder


def composed(tree, *words):
    """A resolved config of two images a batch, its AlexNet the real one."""
    register_resolvers()
    weights = shared_data("weights", "lpips", "alexnet_features_torchvision_v1.npz")
    given = (f"dataset.root={tree}", "dataset.workers=0", "dataset.recipe.batch_size=2")
    network = f"dataset.reference.network.weights={weights}"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*words, *given, network], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    whole = plain(config)
    return {key: value for key, value in whole.items() if key != "hydra"}


def answers(classifier, images):
    """The network's own predictions: as labels, all examples are correct and attacked before training."""
    with evaluating(classifier), torch.no_grad():
        return classifier(images).argmax(1)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_trains_one_step(tree, tmp_path, row):
    config = composed(tree, f"+experiment/imagenet100={row}")
    data = build_data(config)
    classifier = build_classifier(config, data, seed=0)
    before = [parameter.detach().clone() for parameter in classifier.parameters()]
    defense = build_defense(config, classifier, data)
    images, _, ids = TrainingExamples(data.splits.train, data.augmentation, 0).__getitems__(Step(0, [0, 1]))
    batch = Batch(images.clamp(0, 1), answers(classifier, images), ids)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, **quiet)
    trainer.fit(defense, train_dataloaders=DataLoader([batch], batch_size=None))
    assert trainer.global_step == 1
    after = list(classifier.parameters())
    assert all(parameter.isfinite().all() for parameter in after)
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    attacked = [name for name in trainer.callback_metrics if name.startswith("train/size")]
    assert bool(attacked) == (row != "normal")


def test_eight_photographs_go_through_the_suite(tree):
    """With the network's own predictions as labels, so that all examples are attacked."""
    steps = [f"attack_suite.attacks.{name}.steps=4" for name in SHORTENED]
    config = composed(tree, "+experiment/imagenet100=normal", *steps)
    data = build_data(config)
    classifier = build_classifier(config, data, seed=0)
    suite = build_suite(config, classifier, data)
    images, _, ids = data.splits.test[slice(0, 8)]
    pixels = (images * 255).round()
    photographs = Examples(pixels.byte(), answers(classifier, pixels / 255), ids)
    records = evaluate(classifier, photographs, suite, Grid(chunk=4))
    assert set(records) == {"clean", "linf", "l2", *SHORTENED}
    for name, frame in records.items():
        assert len(frame) == 8, name
        assert frame["inside"].all(), name
    assert records["clean"]["correct"].all()
    assert not records["linf"]["correct"].any(), "a network that was never trained keeps none"

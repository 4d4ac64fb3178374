"""Every named defense as its YAML makes it, with short attacks, on a handful of digits."""

import copy
from functools import cache

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from gauntlet.config.build import build_classifier, build_defense
from gauntlet.config.compose import CONF, plain, register_resolvers
from gauntlet.config.instantiate import instantiate
from gauntlet.data import Digits, Examples, Splits
from gauntlet.loggers import MetricsCSV
from gauntlet.runs.references import without_weights

DEFENSES = sorted(file.stem for file in (CONF / "defense").glob("*.yaml"))
BATCH, STEPS = 8, 2


@cache
def composed(*words):
    """The resolved config of a training run."""
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", list(words), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return plain(config)


def shorter(node):
    """With two steps wherever an attack has steps."""
    if isinstance(node, dict):
        return {key: 2 if key == "steps" else shorter(value) for key, value in node.items()}
    return node


class Few(Digits):
    """Sixteen digits to train on, six to validate; a network is right about three of four."""

    def __init__(self, classifier=None):
        super().__init__(batch_size=BATCH, seed=1)
        self.classifier = classifier

    def load(self):
        train, validation, test = (
            Examples(*(part[:count] for part in (split.images, split.labels, split.ids)))
            for split, count in zip(super().load(), (BATCH * STEPS, 6, 6), strict=True)
        )
        if self.classifier is None:
            return Splits(train, validation, test)
        with torch.no_grad():
            known = copy.deepcopy(self.classifier).eval()(train[slice(None)].images)
        labels = (known.argmax(1) + (torch.arange(len(train)) % 4 == 0)) % 10
        return Splits(Examples(train.images, labels, train.ids), validation, test)


def regime(name, *words):
    """A named defense, its data and its config. The perceptual networks have their first weights."""
    config = without_weights(composed(f"defense={name}", "model.width=4", "trainer=cpu", *words))
    config["defense"] = shorter(config["defense"])
    classifier = build_classifier(config, Few(), config["seed"])
    data = Few(classifier)
    return build_defense(config, classifier, data), data, config


def trainer_of(config, folder, epochs, *callbacks, **options):
    """The config's own trainer and callbacks."""
    node = config["trainer"] | {"max_epochs": epochs, "log_every_n_steps": 1, "enable_progress_bar": False, **options}
    own = [instantiate(config["callbacks"][key]) for key in ("resume", "speed", "learning_rate")]
    folder.joinpath("checkpoints").mkdir(parents=True, exist_ok=True)
    return instantiate(node, callbacks=[*own, *callbacks], logger=[MetricsCSV(folder)], default_root_dir=folder)

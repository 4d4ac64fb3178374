"""Cost of the published tables: passes counted on the real attacks and defenses, FLOP of the real networks.

    python scripts/cost_model.py cifar10 imagenet100

Passes do not depend on a network's size, so they are counted on a small one on which no attack succeeds: this is the
largest cost of an example. FLOP are torch's own count for one image and the published network. docs/scaling.md has the
output and its interpretation.
"""

from __future__ import annotations

import sys
from itertools import chain
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gauntlet.config.compose import CONF, plain, register_resolvers
from gauntlet.config.instantiate import instantiate
from gauntlet.data import Batch, Examples
from gauntlet.defenses import AdversarialDefense
from gauntlet.evaluation import Grid, ModelUnderTest
from gauntlet.evaluation.cost import cost_of, counted_passes, networks_in
from gauntlet.runs.references import without_weights

SIZE = {"cifar10": 32, "imagenet100": 64}  # of the images on which passes are counted
REAL = {"cifar10": 32, "imagenet100": 224}
TRAINING = {"cifar10": 49_000, "imagenet100": 124_160}  # images; of ImageNet-100 about 98 % of 126,689
TEST = {"cifar10": 10_000, "imagenet100": 5_000}


class Unfooled(nn.Module):
    """A small tapped network that predicts class 0 for every image, with non-zero gradients."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
        self.last = nn.Linear(4, classes)
        self.register_buffer("lead", 50.0 * torch.eye(classes)[0])

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return one feature map."""
        return (self.first(images),)

    def tap(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the map, and the logits from it."""
        maps = self.features(images)
        return maps, self.last(maps[0].mean((2, 3))) + self.lead

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.tap(images)[1]


def gigaflops(network: nn.Module, size: int) -> float:
    """Return the GFLOP of one forward pass of one image; a multiply-add counts as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.rand(1, 3, size, size))
    return counter.get_total_flops() / 1e9


def config_of(table: str, row: str) -> dict[str, Any]:
    """Return the resolved config of a row, with untrained networks where weights have to be fitted or downloaded."""
    config = compose("train", [f"+experiment/{table}={row}"], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return _untrained(without_weights(plain(config)))


def _untrained(node: Any) -> Any:
    if isinstance(node, dict) and node.get("_target_") == "gauntlet.models.imagenet_features":
        return {"_target_": "gauntlet.models.alexnet_cifar", "classes": 10}  # the same five taps
    if isinstance(node, dict):
        return {key: _untrained(value) for key, value in node.items()}
    return [_untrained(value) for value in node] if isinstance(node, list) else node


def training_passes(config: dict[str, Any], images: Tensor) -> tuple[float, float, float]:
    """Return forwards and backwards of the classifier and forwards of another network, per image and step."""
    classifier = Unfooled(config["dataset"]["classes"])
    node = {key: value for key, value in config["defense"].items() if key != "row"}
    defense = instantiate(node, "defense", classifier=classifier, seed=0)
    attacks = defense.attacks.values() if isinstance(defense, AdversarialDefense) else []
    networks = chain.from_iterable(networks_in(attack) for attack in attacks)
    others = [network for network in networks if network is not classifier][:1]
    batch = Batch(images, torch.zeros(len(images), dtype=torch.long), torch.arange(len(images)))
    defense.note = lambda *_, **__: None  # there is no trainer to log to
    defense.trainer = type("Trainer", (), {"current_epoch": 0, "global_step": 0})()
    with counted_passes((classifier, *others), images[:1]) as counts:
        defense.losses(batch).mean().backward()
    own, *foreign = ((count.forwards / len(images), count.backwards / len(images)) for count in counts)
    return own[0], own[1], foreign[0][0] if foreign else 0.0


def main() -> None:
    """Print two Markdown tables per dataset."""
    register_resolvers()
    torch.manual_seed(0)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for table in sys.argv[1:] or list(SIZE):
            show(table)


def show(table: str) -> None:
    """Print training by row, then evaluation by attack."""
    from torchvision.models import alexnet

    from gauntlet.models import alexnet_cifar, resnet50, resnet50_imagenet

    size, real = SIZE[table], REAL[table]
    mean = [0.5] * 3
    classes = {"cifar10": 10, "imagenet100": 100}[table]
    own = gigaflops((resnet50 if real == 32 else resnet50_imagenet)(classes, mean, mean), real)
    other = gigaflops(alexnet_cifar(classes) if real == 32 else alexnet().features, real)
    print(f"\n## {table}: a forward of ResNet-50 is {own:.3g} GFLOP, of AlexNet {other:.3g} GFLOP, per image\n")
    images = torch.rand(4, 3, size, size)
    print(_head("row", "PFLOP per run"))
    for file in sorted((CONF / "experiment" / table).glob("*.yaml")):
        config = config_of(table, file.stem)
        forwards, backwards, others = training_passes(config, images)
        # the step's own backward also computes the parameters' gradients, at the same cost; AlexNet has as many
        # backwards as forwards
        work = own * (forwards + backwards + 1) + 2 * other * others
        total = work * TRAINING[table] * config["dataset"]["recipe"]["epochs"] / 1e6
        print(_row(file.stem, forwards, backwards, others, work, total), flush=True)
    config = config_of(table, "normal")
    suite = instantiate(config["attack_suite"], "attack_suite")
    classifier = Unfooled(classes)
    few = Examples((images * 255).round().to(torch.uint8), torch.zeros(4, dtype=torch.long), torch.arange(4))
    model = ModelUnderTest(classifier, "none", few, "none")
    print("\n" + _head("attack", "PFLOP in all"))
    for name, attack in suite.attacks.items():
        cost = cost_of(model, attack, Grid(chunk=4))
        work = own * (cost.forwards + 2 + cost.backwards) + 2 * other * cost.others
        total = work * TEST[table] / 1e6
        print(_row(name, cost.forwards, cost.backwards, cost.others, work, total), flush=True)


def _head(first: str, last: str) -> str:
    names = (first, "forwards", "backwards", "AlexNet", "GFLOP per image", last)
    return f"| {' | '.join(names)} |\n| --- {'| --: ' * 5}|"


def _row(name: str, *numbers: float) -> str:
    return f"| {name} | {' | '.join(f'{number:.4g}' for number in numbers)} |"


if __name__ == "__main__":
    main()

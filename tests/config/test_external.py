"""Rows that the paper evaluates and does not train: overlays for evaluate.py, outside the glob of those it trains."""

import json
import re

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from torch import nn
from torch.nn import functional as F

from gauntlet.config.build import build_defense
from gauntlet.config.compose import CONF, plain, register_resolvers
from gauntlet.config.instantiate import instantiate
from gauntlet.defenses.trades import NearbyPGD
from gauntlet.models import preact_resnet18, wide_resnet, with_weights
from gauntlet.models.convert import convert
from tests.defenses.regimes import Few
from tests.fixtures import random_images, tapped

EXTERNAL = {file.stem: file for file in (CONF / "experiment" / "cifar10_external").glob("*.yaml")}
SMALL = {
    "trades": ("wide_resnet", wide_resnet, {"depth": 10, "width": 1}),
    "manifold_regularisation": ("preact_resnet18", preact_resnet18, {"width": 4}),
}


def composed(door, *words):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(door, list(words), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return plain(config)


def bare(network):
    return {name.removeprefix("network."): t for name, t in network.state_dict().items() if name.startswith("network.")}


def theirs(row, network):
    """The state dict as the authors' own code names it."""
    state = bare(network)
    if row == "trades":
        state = {re.sub(r"^(block\d)\.(\d+)", r"\1.layer.\2", name): tensor for name, tensor in state.items()}
        state = {name.replace(".shortcut.", ".convShortcut."): tensor for name, tensor in state.items()}
        return state | {f"sub_{name}": t + 1 for name, t in state.items() if name.startswith("block1.")}
    state = {name.replace("fc.", "linear."): tensor for name, tensor in state.items()}
    return state | {
        f"normalize.new_{part}": getattr(network.normalise, part).reshape(3, 1, 1) for part in ("mean", "std")
    }


def known(row):
    """A small network with weights and running statistics of its own."""
    _, build, arguments = SMALL[row]
    torch.manual_seed(5)
    network = build(10, **arguments).train()
    with torch.no_grad():
        network(random_images(16, 3, 32, 32))
    return network.eval()


def test_no_external_row_is_in_the_table_that_is_trained():
    trained = {file.stem for file in (CONF / "experiment" / "cifar10").glob("*.yaml")}
    assert set(EXTERNAL) == set(SMALL)
    assert not trained & set(EXTERNAL)


@pytest.mark.parametrize("row", EXTERNAL)
def test_an_external_row_is_the_paper_s_network_through_the_paper_s_suite(row):
    config = composed("evaluate", f"+experiment/cifar10_external={row}", "checkpoint=x.safetensors")
    assert (config["names"]["dataset"], config["suite"]) == ("cifar10", "cifar10")
    assert config["trained_on"] == {"trades": ["linf"], "manifold_regularisation": []}[row]
    network = instantiate(config["model"])
    convolutions = sum(isinstance(part, nn.Conv2d) for part in network.modules())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert (convolutions, parameters) == {
        "trades": (31 + 3, 46_160_474),  # WRN-34-10: 15 blocks, three projections
        "manifold_regularisation": (17 + 3, 11_171_274),
    }[row]
    normalises = network.normalise(torch.full((1, 3, 1, 1), 0.5)).flatten().tolist()
    assert (normalises == [0.5] * 3) == (row == "trades")


@pytest.mark.parametrize("row", EXTERNAL)
def test_converted_weights_run_through_a_suite_under_their_overlay(door, outputs, tmp_path, row):
    """On digits, where no download is needed; the command line overrides the overlay."""
    model, _, arguments = SMALL[row]
    network = known(row)
    torch.save(theirs(row, network), tmp_path / "theirs.pt")
    weights = tmp_path / "ours.safetensors"
    convert(tmp_path / "theirs.pt", model, {"classes": 10, **arguments}, None, [], weights)
    images = random_images(2, 3, 32, 32)
    with torch.no_grad():
        assert with_weights(SMALL[row][1](10, **arguments), weights).eval()(images).equal(network(images))

    small = [f"model.{key}={value}" for key, value in arguments.items()]
    words = (
        "dataset=digits",
        "attack_suite=quick",
        "evaluation.examples=4",
        "evaluation.chunk=4",
        f"outputs={outputs}",
    )
    result = door("evaluate", f"+experiment/cifar10_external={row}", f"checkpoint={weights}", *words, *small)
    assert result.code == 0, result.err
    (card,) = outputs.glob("evaluate/ours-*/card.json")
    assert json.loads(card.read_text())["trained_on"] == {"trades": ["linf"], "manifold_regularisation": []}[row]
    assert "unseen mean" in result.out


def test_the_pre_activation_network_is_the_published_one():
    """Its forward from its own tensors, written out: an activated stem, blocks of activated shortcuts, no last norm."""
    network, images = known("manifold_regularisation"), random_images(3, 3, 32, 32)
    state = bare(network)

    def activated(x, name):
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts).relu()

    with torch.no_grad():
        mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
        x = (images - mean[:, None, None]) / std[:, None, None]
        x = activated(F.conv2d(x, state["conv1.weight"], padding=1), "bn1")
        for layer, stride in zip(range(1, 5), (1, 2, 2, 2), strict=True):
            for block, step in ((0, stride), (1, 1)):
                at = f"layer{layer}.{block}"
                active = activated(x, f"{at}.bn1")
                inner = activated(F.conv2d(active, state[f"{at}.conv1.weight"], stride=step, padding=1), f"{at}.bn2")
                projected = f"{at}.shortcut.0.weight"
                shortcut = F.conv2d(active, state[projected], stride=step) if projected in state else active
                x = shortcut + F.conv2d(inner, state[f"{at}.conv2.weight"], padding=1)
        logits = F.linear(F.avg_pool2d(x, 4).flatten(1), state["fc.weight"], state["fc.bias"])
        assert logits.allclose(network(images), atol=1e-5)


def test_the_authors_recipe_of_trades_is_stated():
    config = composed("train", "+experiment/cifar10_beyond=trades_linf")
    attack, recipe = config["defense"]["attack"], config["dataset"]["recipe"]
    assert attack["threat_model"]["bound"] == 0.031
    assert attack["step_size"] * 0.031 == pytest.approx(0.007, rel=1e-5)
    assert (attack["spread"], attack["steps"], config["defense"]["beta"]) == (0.001, 10, 6.0)
    assert (recipe["epochs"], recipe["batch_size"], recipe["drop_epochs"]) == (80, 128, [74, 89])
    assert (recipe["learning_rate"], recipe["weight_decay"]) == (0.1, 2e-4)
    assert [name for name, node in config["dataset"]["augmentation"].items() if node] == ["crop", "flip"]
    made = build_defense(config, tapped(classes=10), Few())
    assert isinstance(made.attacks["linf"], NearbyPGD)

"""Every model and distance from the command line: composed, built, run at its size; invalid choices are one line."""

import json

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from safetensors.torch import load_file, save_file

from gauntlet.config.compose import CONF, plain, register_resolvers
from gauntlet.config.instantiate import instantiate
from gauntlet.models import Tapped
from gauntlet.models.convert import card_of, convert
from tests.conftest import QUICK
from tests.fixtures import random_images

SIZES = {"alexnet": 224, "resnet18_imagenet": 224, "resnet34_imagenet": 224, "resnet50_imagenet": 224}
WORDS = {
    "torchvision": ["model.name=resnet18", "model.taps=[layer1,layer4]"],
    "timm": ["model.name=resnet10t", "model.taps=[layer1,layer4]"],
    "custom": ["model.network._target_=torch.nn.LazyLinear", "++model.network.out_features=10"],
}


@pytest.fixture
def composed():
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):

        def call(*words):
            config = compose("train", ["defense=normal", *words], return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            return plain(config)

        yield call


@pytest.mark.parametrize("model", sorted(file.stem for file in (CONF / "model").glob("*.yaml")))
def test_every_model_composes_and_runs_at_its_size(composed, model):
    if model == "timm":
        pytest.importorskip("timm", reason="timm is an extra")
    config = composed(f"model={model}", *WORDS.get(model, []))
    network = instantiate(config["model"]).eval()
    images = random_images(1, 3, SIZES.get(model, 32), SIZES.get(model, 32))
    with torch.no_grad():
        assert network(images).shape[-1] == 10
    assert isinstance(network, Tapped) == (model not in ("linear", "custom"))
    assert network.normalise.mean.flatten().tolist() == pytest.approx(
        config["model"].get("mean", [0.485, 0.456, 0.406])  # alexnet_cifar keeps its own
    )


REFUSED = {
    "pat_self without taps": (("defense=pat_self", "model=torchvision", "model.name=resnet18"), "has none: choose"),
    "taps that are not there": (
        ("defense=normal", "model=torchvision", "model.name=resnet18", "model.taps=[layer7]"),
        "layer7",
    ),
    "a model that is not there": (("defense=normal", "model=torchvision", "model.name=resnet19"), "resnet19"),
    "no name": (("defense=normal", "model=torchvision"), "name"),
    "too small images": (("defense=normal", "model=alexnet"), "cannot take the dataset's [3, 32, 32] images"),
    "another number of classes": (("defense=normal", "model=resnet20", "model.classes=7"), "[1, 7]"),
    "a normalisation of grayscale images": (
        ("defense=normal", "model=resnet20", "model.mean=[0.5]", "model.std=[0.5]"),
        "cannot take the dataset's [3, 32, 32] images (but takes [1, 32, 32])",
    ),
    "a network of another package": (
        ("defense=normal", "model=custom", "model.network._target_=strangers.Net"),
        "allow=[strangers]",
    ),
    "no weights": (
        ("defense=pat", "distance=lpips_vgg", "distance.network.weights=nowhere.pth", "threat_model.bound=1"),
        "no checkpoint at nowhere.pth",
    ),
    "a ball without φ": (("defense=pat", "distance=ssim", "threat_model.bound=1"), "ssim has no embedding φ"),
    "a ball without φ either": (("defense=pat", "distance=linf", "threat_model.bound=1"), "linf has no embedding φ"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_invalid_choice_is_one_line(door, outputs, case):
    words, hint = REFUSED[case]
    small = [word for word in QUICK if not (word.startswith("model.") and any("model=" in w for w in words))]
    result = door("train", *words, f"outputs={outputs}", *small)
    assert result.code == 2
    assert hint in result.err
    assert len(result.err.strip().splitlines()) == 1, result.err


CLEAN = ("attack_suite=clean", "evaluation.examples=20", "evaluation.chunk=20", "evaluation.device=cpu")


@pytest.fixture
def converted(run):
    """The weights of a finished run as another project would keep them, converted."""
    names = load_file(run / "checkpoints" / "final.safetensors")
    foreign, out = run / "foreign.pt", run.parents[2] / "own" / "converted.safetensors"
    torch.save({"model": {f"module.{n.removeprefix('network.')}": t for n, t in names.items()}}, foreign)
    convert(foreign, "small_resnet", {"classes": 10, "width": 4}, None, ["linf"], out)
    return out


def test_evaluate_takes_the_model_of_converted_weights_from_their_card(door, run, converted):
    outputs = run.parents[2]
    result = door("evaluate", f"checkpoint={converted}", "dataset=digits", f"outputs={outputs}", *CLEAN)
    assert result.code == 0, result.err
    (folder,) = (outputs / "evaluate").glob("converted-*")
    card = json.loads((folder / "card.json").read_text())
    assert (card["model"], card["trained_on"]) == ("small_resnet", ["linf"])
    assert card["checkpoint"] == json.loads(card_of(converted).read_text())["sha256"]


def test_a_card_of_other_weights_is_refused(door, run, converted):
    changed = {name: tensor + 1 for name, tensor in load_file(converted).items()}
    save_file(changed, converted)
    result = door("evaluate", f"checkpoint={converted}", "dataset=digits", f"outputs={run.parents[2]}", *CLEAN)
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1)
    assert "is the card of other weights" in result.err


def test_a_card_cannot_name_code(door, run, converted):
    card = json.loads(card_of(converted).read_text())
    card["node"] = {"_target_": "os.mkdir", "path": str(run / "made")}
    card_of(converted).write_text(json.dumps(card))
    result = door("evaluate", f"checkpoint={converted}", "dataset=digits", f"outputs={run.parents[2]}", *CLEAN)
    assert result.code == 2
    assert "allow=[os]" in result.err
    assert not (run / "made").exists()


def test_a_model_that_is_named_wins_over_the_card(door, run, converted):
    words = (f"checkpoint={converted}", "dataset=digits", "model=resnet20", f"outputs={run.parents[2]}", *CLEAN)
    result = door("evaluate", *words)
    assert result.code == 2
    assert "does not fit" in result.err

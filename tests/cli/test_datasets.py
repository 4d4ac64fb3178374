"""Real datasets from the command line: a run depends on their content, not on their location."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from gauntlet.config.compose import training_part
from gauntlet.runs.references import fit_command, reference_folder
from tests.conftest import QUICK
from tests.fixtures import shared_data

FAST = ("defense=normal", "attack_suite=clean", "trainer.max_epochs=1", "dataset.reference=null", *QUICK)


@pytest.fixture
def mini(tmp_path):
    """A folder with the real selection of CIFAR-10 that can be moved."""
    return shutil.copytree(shared_data("cifar10", "mini"), tmp_path / "mini")


def run_of(outputs, dataset="cifar10"):
    (folder,) = outputs.glob(f"{dataset}/*/*")
    return folder


def no_network(monkeypatch):
    monkeypatch.setattr("gauntlet.data.cifar10.OFFICIAL", "http://127.0.0.1:9/nothing")
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")


def test_training_resumes_after_the_same_images_were_moved(door, mini, tmp_path, monkeypatch):
    no_network(monkeypatch)
    words = [*FAST, "dataset=cifar10", f"outputs={tmp_path / 'outputs'}", "dataset.recipe.batch_size=500"]
    result = door("train", *words, f"dataset.root={mini}")
    assert result.code == 0, result.err
    folder = run_of(tmp_path / "outputs")
    weights = (folder / "checkpoints" / "final.safetensors").stat().st_mtime_ns
    card = json.loads((folder / "card.json").read_text())
    assert json.loads((folder / "data.json").read_text())["fingerprint"] == card["fingerprint"]
    mini.rename(tmp_path / "moved")
    result = door("train", *words, f"dataset.root={tmp_path / 'moved'}")
    assert result.code == 0, result.err
    assert (folder / "checkpoints" / "final.safetensors").stat().st_mtime_ns == weights
    with np.load(tmp_path / "moved" / "labels.npz") as arrays:
        other = dict(arrays)
    result = door("evaluate", f"checkpoint={folder}", "attack_suite=clean", *QUICK[2:4])
    assert result.code == 2, "the images were moved"
    moved = f"++dataset.root={tmp_path / 'moved'}"
    result = door("evaluate", f"checkpoint={folder}", "attack_suite=clean", moved, *QUICK[2:4])
    assert result.code == 0, result.err
    other["train"] = (other["train"] + 1) % 10
    np.savez(tmp_path / "moved" / "labels.npz", **other)
    result = door("train", *words, f"dataset.root={tmp_path / 'moved'}")
    assert result.code == 2
    assert f"holds a run on other data (fingerprint {card['fingerprint'][:12]}…" in result.err
    assert result.err.count("\n") == 1


def test_missing_images_are_one_line_that_says_what_to_put_where(door, tmp_path, monkeypatch):
    no_network(monkeypatch)
    words = [*FAST, "dataset=cifar10", f"dataset.root={tmp_path / 'none'}", f"outputs={tmp_path / 'out'}"]
    result = door("train", *words)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"dataset.root={tmp_path / 'none'}: there is no such folder" in result.err
    (tmp_path / "none").mkdir()
    result = door("train", *words)
    assert result.code == 2
    assert result.err.startswith("gauntlet: CIFAR-10 is not in ")
    assert "dataset.root=<folder>" in result.err
    assert result.err.count("\n") == 1


@pytest.fixture
def tree(tmp_path):
    """Three classes of real photographs as training and test folders."""
    classes = sorted(shared_data("imagenet", "imagenet100_one_per_class").iterdir())[:3]
    for split in ("train", "test"):
        for wnid in classes:
            path = tmp_path / "tree" / split / wnid.name
            path.mkdir(parents=True)
            for number in range(4):
                shutil.copy(next(wnid.iterdir()), path / f"{number}.JPEG")
    return tmp_path / "tree"


def pictures(tree, tmp_path):
    sizes = ("dataset.size=64", "dataset.classes=3", f"dataset.root={tree}", "dataset.recipe.batch_size=11")
    return (*FAST, "dataset=image_folder", *sizes, f"outputs={tmp_path / 'outputs'}", "evaluation.examples=8")


def without_reference(monkeypatch, tmp_path):
    """The configs, with an AlexNet that needs no weights instead of the pretrained one."""
    from gauntlet.cli import main as doors
    from gauntlet.config.compose import CONF

    conf = shutil.copytree(CONF, tmp_path / "conf")
    (conf / "distance" / "lpips_alexnet.yaml").write_text(
        "_target_: gauntlet.distances.LPIPS\nnetwork: {_target_: gauntlet.models.alexnet}\n"
    )
    monkeypatch.setattr(doors, "CONF", conf)


def test_a_folder_of_pictures_trains_and_is_evaluated(door, tree, tmp_path, monkeypatch):
    without_reference(monkeypatch, tmp_path)
    result = door("train", *pictures(tree, tmp_path))
    assert result.code == 0, result.err
    first = run_of(tmp_path / "outputs", "image_folder")
    assert (first / "pictures" / "clean.png").exists()
    result = door("train", *pictures(tree, tmp_path), "dataset.workers=0")
    assert result.code == 0, result.err
    assert run_of(tmp_path / "outputs", "image_folder") == first
    result = door(
        "evaluate", f"checkpoint={first}", "attack_suite=clean", "evaluation.examples=8", "evaluation.chunk=20"
    )
    assert result.code == 0, result.err


def test_a_damaged_picture_stops_training_in_one_line(door, tree, tmp_path, monkeypatch):
    without_reference(monkeypatch, tmp_path)
    for file in (tree / "train").rglob("1.JPEG"):
        file.write_bytes(file.read_bytes()[:3000])
    result = door("train", *pictures(tree, tmp_path))
    assert result.code == 2, result.err
    assert "1.JPEG is damaged or cut off" in result.err
    assert result.err.count("\n") == 1
    assert not list((tmp_path / "outputs").glob("*")), "it is refused before the run has begun"


def test_grey_pictures_go_through_a_grey_network(door, tmp_path, monkeypatch):
    without_reference(monkeypatch, tmp_path)
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "grey" / split / name).mkdir(parents=True)
            for number in range(4):
                pixels = np.random.default_rng(number).integers(0, 256, (30, 40), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "grey" / split / name / f"{number}.png")
    words = [*FAST, "dataset=image_folder", f"dataset.root={tmp_path / 'grey'}", "dataset.size=32", "dataset.classes=2"]
    grey = ["dataset.channels=1", "dataset.mean=[0.5]", "dataset.std=[0.25]", "dataset.recipe.batch_size=7"]
    result = door("train", *words, *grey, f"outputs={tmp_path / 'outputs'}", "evaluation.examples=4")
    assert result.code == 0, result.err
    coloured = "+dataset.augmentation.lighting={_target_: gauntlet.data.PCALighting}"
    result = door("train", *words, *grey, f"outputs={tmp_path / 'outputs'}", coloured)
    assert result.code == 2
    assert "dataset.augmentation: images of 1 channels: lighting is that of 3" in result.err


def test_the_part_that_is_compared_leaves_out_where_the_data_lie():
    config = {"dataset": {"root": "/a", "workers": 4, "classes": 10}, "seed": 0, "outputs": "o"}
    assert training_part(config) == {"dataset": {"classes": 10}, "seed": 0}
    assert config["dataset"]["root"] == "/a"


class Printed:
    fingerprint = "f" * 64


def test_the_fit_of_a_reference_has_the_same_data_and_augmentation(tmp_path):
    jitter = {"_target_": "gauntlet.data.RandomFlip", "chance": 0.5}
    dataset = {"root": "/the/data", "classes": 10, "augmentation": {"flip": jitter}, "reference_recipe": {"epochs": 1}}
    config = {"names": {"dataset": "cifar10"}, "dataset": dataset, "outputs": str(tmp_path), "allow": []}
    words = fit_command(config, "alexnet_cifar", tmp_path / "fit")
    emptied = words.index("++dataset.augmentation=null")
    assert words.index("++dataset.augmentation.flip.chance=0.5") > emptied
    assert '++dataset.root="/the/data"' in words
    other = config | {"dataset": dataset | {"augmentation": None}}
    moved = config | {"dataset": dataset | {"root": "/elsewhere"}}
    assert reference_folder(config, "alexnet_cifar", Printed()) == reference_folder(moved, "alexnet_cifar", Printed())
    assert reference_folder(config, "alexnet_cifar", Printed()) != reference_folder(other, "alexnet_cifar", Printed())


def test_a_removed_augmentation_stays_out_of_the_fit():
    """Hydra composes `null` first and the steps that are left after it."""
    from hydra import compose, initialize_config_dir

    from gauntlet.config.compose import CONF, register_resolvers

    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = ["++dataset.augmentation=null", "++dataset.augmentation.flip._target_=gauntlet.data.RandomFlip"]
        config = compose("train", ["defense=normal", "dataset=cifar10", *words])
    assert dict(config.dataset.augmentation) == {"flip": {"_target_": "gauntlet.data.RandomFlip"}}

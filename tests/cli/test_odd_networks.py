"""Networks that cannot be trained or saved are refused before training; all others are trained, saved and loaded."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gauntlet.config.build import build_classifier, rehearse_training
from gauntlet.data import Digits
from gauntlet.errors import UserError
from gauntlet.models.weights import load_weights, read_weights, save_weights, weights_bytes
from tests.cli.odd_networks import Tied
from tests.conftest import QUICK
from tests.fixtures import random_images

WORDS = (
    *("defense=normal", "model=custom", "trainer.max_epochs=1", "attack_suite=clean", "dataset.reference=null"),
    *("dataset.recipe.learning_rate=0.02", *(word for word in QUICK if not word.startswith("model."))),
    "allow=[tests]",
)


def network(name):
    return f"model.network._target_=tests.cli.odd_networks.{name}"


@pytest.mark.parametrize("name", ["Tied", "TensorState", "Auxiliary", "OneAuxiliary", "Pair"])
def test_an_unusual_network_is_trained_saved_and_evaluated(door, outputs, name):
    result = door("train", *WORDS, network(name), f"outputs={outputs}")
    assert result.code == 0, result.err
    (run,) = outputs.glob("digits/*/*")
    final = load_file(run / "checkpoints" / "final.safetensors")
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert {f"classifier.{name}" for name in final} == last.keys()
    assert all(last[f"classifier.{name}"].equal(tensor) for name, tensor in final.items())
    if name == "Tied":
        assert final["network.a.weight"].equal(final["network.b.weight"])
    words = ("attack_suite=clean", "evaluation.examples=40", "evaluation.chunk=20", "suite=again", "allow=[tests]")
    result = door("evaluate", f"checkpoint={run}", f"outputs={outputs}", *words)
    assert result.code == 0, result.err


REFUSED = {
    "ObjectState": "has network._extra_state, a dict, in its state dict",
    "Forgetful": "the model answers otherwise once its weights were saved and loaded into a new one",
    "Complex": "holds network.phase as complex64, strided: expected dense tensors of real numbers",
    "Nothing": "answers dict in train mode, with NoneType for logits [N, K]",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_or_saved_is_refused_before_training(door, outputs, name):
    result = door("train", *WORDS, network(name), f"outputs={outputs}")
    assert result.code == 2, result.err
    assert REFUSED[name] in result.err, result.err
    assert len(result.err.strip().splitlines()) == 1, result.err
    assert [folder.name for folder in outputs.iterdir()] == ["references"]


@pytest.mark.parametrize(("batch_size", "steps"), [(433, 3), (1299, 1), (650, 2), (26, 50)])
def test_a_last_batch_of_one_does_not_end_training_under_batch_norm(door, outputs, batch_size, steps):
    """1,300 = 3 · 433 + 1: one example is left out, another one in every epoch."""
    size = f"dataset.recipe.batch_size={batch_size}"
    result = door("train", *WORDS, network("Normed"), f"outputs={outputs}", size)
    assert result.code == 0, result.err
    (last,) = outputs.glob("digits/*/*/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == steps


def test_batches_of_one_are_refused_where_they_cannot_be_trained_on(door, outputs):
    result = door("train", *WORDS, network("Normed"), f"outputs={outputs}", "dataset.recipe.batch_size=1")
    assert result.code == 2
    assert "the model cannot be trained on one image at once (Expected more than 1 value per channel" in result.err
    assert "set dataset.recipe.batch_size to more" in result.err


def test_the_rehearsal_leaves_weights_statistics_and_random_numbers_alone():
    node = {"_target_": "gauntlet.models.small_resnet", "classes": 10, "mean": [0.3] * 3, "std": [0.3] * 3, "width": 4}
    config = {"seed": 3, "model": node, "dataset": {"classes": 10}}
    data = Digits(batch_size=400)
    classifier = build_classifier(config, data, 3)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    rehearse_training(config, classifier, data, 1)
    assert torch.rand(3).equal(expected)
    assert all(tensor.equal(before[name]) for name, tensor in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert classifier.training


def test_shared_weights_stay_shared_and_one_of_their_names_is_enough(tmp_path):
    torch.manual_seed(0)
    one, other = Tied(), Tied()
    file = tmp_path / "tied.safetensors"
    save_weights(one, file)
    tensors = read_weights(file)
    assert tensors.keys() == one.state_dict().keys()
    for shared in ("b.weight", "again.weight", "again.bias"):
        del tensors[shared]
    load_weights(other, tensors, file)
    assert other.a.weight is other.b.weight
    images = random_images(3, 3, 32, 32)
    assert other(images).equal(one(images))
    del tensors["a.weight"]
    with pytest.raises(UserError, match="2 tensors of this network are not in it"):
        load_weights(other, tensors, file)
    untied = Tied()
    untied.b = nn.Linear(128, 128)
    with pytest.raises(UserError, match="tensors of this network are not in it"):
        load_weights(untied, {name: t for name, t in read_weights(file).items() if name != "b.weight"}, file)
    assert weights_bytes(one) == weights_bytes(one)

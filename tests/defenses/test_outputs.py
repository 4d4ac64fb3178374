"""The loss of networks with auxiliary classifiers is as in their papers: main loss, and 0.3 or 0.4 of each other."""

from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model
from torchvision.models.inception import InceptionOutputs

from gauntlet.attacks import PGD, Last
from gauntlet.data import Batch
from gauntlet.defenses import TRADES, AdversarialTraining, AverageAttackTraining, NormalTraining, warmup_and_drops
from gauntlet.defenses.outputs import outputs_of
from gauntlet.defenses.trades import NearbyPGD, OtherPredictions
from gauntlet.errors import UserError
from gauntlet.models import classifier
from gauntlet.threats import Linf
from tests.cli.odd_networks import Auxiliary, OneAuxiliary
from tests.fixtures import random_images

SGD = partial(torch.optim.SGD, lr=0.1)
FLAT = partial(warmup_and_drops, warmup_epochs=0, drop_epochs=[])
LABELS = torch.tensor([3, 1, 4, 1, 5, 9])
BATCH = Batch(random_images(6, 3, 32, 32), LABELS, torch.arange(6))
ATTACK = PGD(threat_model=Linf(0.1), steps=2, iterate=Last())


def quiet(made):
    made.log = lambda *_, **__: None
    return made.train()


def made(regime, network, *given):
    torch.manual_seed(0)
    return quiet(regime(*given, classifier=network, optimizer=SGD, schedule=FLAT, seed=1))


def expected(logits, others, weight):
    loss = F.cross_entropy(logits, LABELS, reduction="none")
    return loss + weight * sum(F.cross_entropy(one, LABELS, reduction="none") for one in others)


@pytest.mark.parametrize(("kind", "weight"), [(Auxiliary, 0.3), (OneAuxiliary, 0.4)])
def test_the_loss_of_normal_training(kind, weight):
    network = kind()
    answer = network.train()(BATCH.images)
    others = [one for one in answer[1:] if one is not None]
    assert len(others) == kind.count
    actual = made(NormalTraining, network).losses(BATCH)
    assert actual.allclose(expected(answer.logits, others, weight))
    assert not actual.allclose(F.cross_entropy(answer.logits, LABELS, reduction="none"))


def test_googlenet_of_torchvision():
    """Two auxiliary classifiers, 0.3 each; dropout draws the same twice."""
    torch.manual_seed(0)
    network = get_model("googlenet", weights=None, num_classes=10, init_weights=False)
    whole = classifier(network, [0.5] * 3, [0.5] * 3)
    training = made(NormalTraining, whole)
    torch.manual_seed(5)
    actual = training.losses(BATCH)
    torch.manual_seed(5)
    answer = whole.train()(BATCH.images)
    assert actual.allclose(expected(answer.logits, (answer.aux_logits1, answer.aux_logits2), 0.3), rtol=1e-4)


def test_adversarial_regimes_train_auxiliary_classifiers_on_adversarial_images():
    for regime, given, repeats in (
        (AdversarialTraining, (ATTACK, True), 1),
        (AverageAttackTraining, ({"a": ATTACK, "b": ATTACK}, True), 2),
    ):
        torch.manual_seed(0)
        network = Auxiliary()
        training = made(regime, network, *given)
        everything = torch.ones(6, dtype=torch.bool)
        images = [training.perturbed(name, BATCH, everything) for name in training.attacks]
        losses = [expected(answer[0], answer[1:], 0.3) for answer in map(network.train(), images)]
        assert training.losses(BATCH).allclose(torch.cat(losses), rtol=1e-5)
        assert len(losses) == repeats


def test_trades_trains_auxiliary_classifiers_on_the_clean_images():
    attack = NearbyPGD(threat_model=Linf(0.1), steps=2, iterate=Last(), goal=OtherPredictions())
    torch.manual_seed(0)
    network = Auxiliary()
    training = made(TRADES, network, attack, 0.0)
    answer = network.train()(BATCH.images)
    assert training.losses(BATCH).allclose(expected(answer[0], answer[1:], 0.3), rtol=1e-5)


class Other(NamedTuple):
    """The output of another library."""

    features: Tensor
    logits: Tensor


def test_outputs_are_read_by_name_and_a_plain_tuple_by_its_order():
    logits, other = torch.rand(2, 5), torch.rand(2, 5)
    assert outputs_of(logits).logits is logits
    assert outputs_of(Other(other, logits)).logits is logits
    assert outputs_of((logits, other)).logits is logits
    assert outputs_of([logits]).auxiliary == ()
    assert outputs_of({"logits": logits, "aux_logits": other}).auxiliary[0] is other
    read = outputs_of(InceptionOutputs(logits, other))
    assert (read.logits is logits, read.auxiliary[0] is other, read.weight) == (True, True, 0.4)
    assert outputs_of(InceptionOutputs(logits, None)).auxiliary == ()


@pytest.mark.parametrize("answer", [None, (), {"loss": torch.ones(())}, torch.ones(2, 3, 4), (torch.ones(3), 2), "x"])
def test_outputs_without_logits_are_refused(answer):
    with pytest.raises(UserError, match=r"in train mode, with .* for logits \[N, K\]") as refused:
        outputs_of(answer)
    assert "\n" not in str(refused.value)


def test_a_network_without_auxiliary_classifiers_is_unchanged():
    """It has the plain cross-entropy."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    actual = made(NormalTraining, network).losses(BATCH)
    assert actual.equal(F.cross_entropy(network(BATCH.images), LABELS, reduction="none"))

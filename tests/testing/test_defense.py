"""`check_defense` fails on every promise that a defense breaks, and says which."""

from functools import partial

import pytest
import torch
from torch import nn

from gauntlet.attacks import PGD, Last
from gauntlet.data import Batch
from gauntlet.defenses import AdversarialTraining, AverageAttackTraining, NormalTraining, warmup_and_drops
from gauntlet.testing import check_defense
from gauntlet.threats import L2, Linf

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
FLAT = partial(warmup_and_drops, warmup_epochs=0, drop_epochs=[])
ATTACKS = {threat.name: PGD(threat_model=threat, steps=1, iterate=Last()) for threat in (Linf(0.05), L2(0.5))}
BATCH = Batch(
    torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 4, torch.arange(6) + 10
)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2)]
        return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 4))


def check(regime, **options):
    def make(classifier):
        return regime(classifier=classifier, optimizer=SGD, schedule=FLAT, **options)

    check_defense(make, classifier=network(), batch=BATCH)


def test_defenses_that_keep_their_promises_pass():
    check(NormalTraining)
    check(AverageAttackTraining, attacks=ATTACKS)
    check(AdversarialTraining, attack=ATTACKS["linf"], attack_wrong=True)


def broken(**members):
    return type("Broken", (NormalTraining,), members)


def averaged(self, batch):
    return NormalTraining.losses(self, batch).mean()


def of_two_forwards(self, batch):
    self.classifier(batch.images.flip(3))
    return NormalTraining.losses(self, batch)


def infinite(self, batch):
    losses = NormalTraining.losses(self, batch)
    return torch.where(torch.arange(len(losses)) == 1, torch.inf, losses)


def with_infinite_gradients(self, batch):
    losses = NormalTraining.losses(self, batch)
    return losses + (losses - losses.detach()).sqrt()


def without_a_graph(self, batch):
    return NormalTraining.losses(self, batch).detach()


def of_another_step(self, batch, batch_idx):
    return 2 * self.losses(batch).mean()


def without_losses(self, batch, batch_idx):
    return self.task.loss(self.classifier(batch.images), batch.labels).mean()


def writing(self, batch):
    losses = NormalTraining.losses(self, batch)
    batch.ids.add_(0)
    return losses


def leaving_eval_mode(self, batch):
    losses = NormalTraining.losses(self, batch)
    self.classifier[1].eval()
    return losses


def frozen_after_the_step(self, *_):
    self.classifier[0].weight.requires_grad_(False)


def of_nothing(self, batch):
    weight = next(self.classifier.parameters())
    return self.classifier(batch.images).new_zeros(len(batch.labels)) + 0 * weight.sum()


class Random(NormalTraining):
    """Noise of a generator that no seed of the defense reaches."""

    drawn = torch.Generator().manual_seed(0)

    def losses(self, batch):
        noise = torch.rand(batch.images.shape, generator=self.drawn)
        return super().losses(batch._replace(images=(batch.images + 0.1 * noise).clamp(0, 1)))


class Counting(NormalTraining):
    """Weights that depend on a number which no checkpoint holds."""

    steps = 0

    def losses(self, batch):
        self.steps += 1
        return self.steps * super().losses(batch)


class Learning(NormalTraining):
    """Batch norms that see the validation."""

    def validation_step(self, batch, batch_idx):
        self.classifier.train()(batch.images)


class Silent(NormalTraining):
    """Trained on what has no name."""

    trained_on = "linf"


class Twice(NormalTraining):
    """Names a threat model twice."""

    trained_on = ["linf", "linf"]  # noqa: RUF012


DEFENSES = {
    "losses of shape \\[\\] for 6 examples": broken(losses=averaged),
    "losses of shape \\[5\\] for 6 examples": broken(losses=lambda self, batch: NormalTraining.losses(self, batch)[1:]),
    "2 forwards in training mode": broken(losses=of_two_forwards),
    "a loss is not finite": broken(losses=infinite),
    "the gradient of .* is not finite": broken(losses=with_infinite_gradients),
    "losses have no graph": broken(losses=without_a_graph),
    "the step's loss is": broken(training_step=of_another_step),
    "does not call losses": broken(training_step=without_losses),
    "writes on the caller's ids": broken(losses=writing),
    "is left in eval mode": broken(losses=leaving_eval_mode),
    "asks for no gradient after a step": broken(on_before_optimizer_step=frozen_after_the_step),
    "steps change no weight": broken(losses=of_nothing, on_train_batch_start=lambda *_: None),
    "training again gives other weights": Random,
    "training resumed after step 2 gives other weights": Counting,
    "validation changes": Learning,
    "trained_on is 'linf'": Silent,
    "trained_on names \\['linf', 'linf'\\]": Twice,
}


@pytest.mark.parametrize(("sentence", "regime"), DEFENSES.items(), ids=DEFENSES)
def test_a_defense_that_breaks_a_promise_is_named_with_it(sentence, regime):
    with pytest.raises(AssertionError, match=sentence):
        check(regime)


def test_what_is_no_defense_is_refused():
    with pytest.raises(AssertionError, match=r"Sequential is no gauntlet\.defenses\.Defense"):
        check_defense(lambda classifier: classifier, classifier=network(), batch=BATCH)


def test_without_anything_it_trains_a_small_network_on_digits():
    check_defense(lambda classifier: NormalTraining(classifier, SGD, FLAT))

"""A training step: which examples are attacked, modes, BatchNorm's images, the learning rate."""

import copy
from functools import partial

import pytest
import torch
from lightning import Trainer
from torch import nn

from gauntlet.attacks import PGD, Adversarial, Attack, FastLagrangianPerceptualAttack, Last
from gauntlet.data import Batch, Digits
from gauntlet.defenses import AdversarialTraining, NormalTraining, warmup_and_drops
from gauntlet.distances import SelfLPIPS
from gauntlet.models import small_resnet
from gauntlet.threats import Linf, NeuralPerceptual

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
FLAT = partial(warmup_and_drops, warmup_epochs=0, drop_epochs=[])
PAT = FastLagrangianPerceptualAttack(threat_model=NeuralPerceptual(SelfLPIPS(), 0.5), iterate=Last(), steps=2)


class Watch(Attack):
    """An attack that records its calls and returns recognisable images."""

    threat_model, stays_inside = Linf(0.1), True

    def __init__(self):
        self.calls = []

    def __call__(self, classifier, images, labels, *, seeds=None):
        self.calls.append((classifier.training, images, labels, seeds))
        return PGD(threat_model=Linf(0.1), steps=1, iterate=Last())(classifier, images, labels, seeds=seeds)


def network():
    torch.manual_seed(0)
    return small_resnet(10, [0.3] * 3, [0.3] * 3, width=4)


def batch(count=32):
    return Digits().splits.train[slice(0, count)]


def defense(attack, **options):
    made = AdversarialTraining(attack, classifier=network(), optimizer=SGD, schedule=FLAT, seed=1, **options)
    made.log = lambda *_, **__: None
    made.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    return made.train()


def test_only_correct_examples_are_attacked_in_eval_mode_with_their_own_seeds():
    watch = Watch()
    made, examples = defense(watch), batch()
    with torch.no_grad():
        right = made.classifier.eval()(examples.images).argmax(1) == examples.labels
    made.classifier.train()
    assert 0 < right.sum() < len(right)
    images = made.training_images(examples, made.right(examples))
    ((training, attacked, labels, seeds),) = watch.calls
    assert not training
    assert attacked.equal(examples.images[right])
    assert labels.equal(examples.labels[right])
    assert seeds.equal(made.example_seeds(examples, 0)[right])
    assert images[~right].equal(examples.images[~right])
    assert not images[right].equal(examples.images[right])
    assert made.classifier.training


class Noting(Attack):
    """Records its batches, and returns the images unchanged."""

    threat_model = Linf(0.1)

    def __init__(self):
        self.batches = []

    def __call__(self, classifier, images, labels, *, seeds=None):
        raise AssertionError("ids and codes are lost")

    def run(self, classifier, batch, noise):
        self.batches.append(batch)
        return Adversarial(batch.images, torch.zeros_like(batch.images), torch.zeros(len(batch.images)))


def test_an_attack_is_given_the_ids_and_codes_of_the_examples_it_attacks():
    noting = Noting()
    made, examples = defense(noting), batch()._replace(codes=torch.arange(32.0)[:, None])
    right = made.right(examples)
    made.training_images(examples, right)
    (given,) = noting.batches
    assert given.ids.equal(examples.ids[right])
    assert given.codes.equal(examples.codes[right])


def test_attack_wrong_attacks_all_examples():
    watch = Watch()
    made, examples = defense(watch, attack_wrong=True), batch()
    made.training_images(examples, made.right(examples))
    assert len(watch.calls[0][1]) == 32


def test_a_batch_without_correct_examples_is_not_attacked():
    watch = Watch()
    made, examples = defense(watch), batch()
    with torch.no_grad():
        wrong = (made.classifier.eval()(examples.images).argmax(1) + 1) % 10
    missed = Batch(examples.images, wrong, examples.ids)
    assert made.training_images(missed, made.right(missed)).equal(examples.images)
    assert not watch.calls


def test_batchnorm_sees_adversarial_images_alone():
    made, examples = defense(PAT), batch()
    before = copy.deepcopy(made.classifier)
    shown = made.training_images(examples, made.right(examples))
    assert all(torch.equal(a, b) for a, b in zip(made.classifier.buffers(), before.buffers(), strict=True))
    made.training_step(examples, 0)
    before.train()(shown)
    assert all(torch.equal(a, b) for a, b in zip(made.classifier.buffers(), before.buffers(), strict=True))


def test_the_loss_is_the_mean_cross_entropy_of_the_adversarial_images():
    made, examples = defense(PAT), batch()
    shown = made.training_images(examples, made.right(examples))
    twin = copy.deepcopy(made.classifier).train()
    expected = nn.functional.cross_entropy(twin(shown), examples.labels)
    assert made.training_step(examples, 0).allclose(expected, rtol=1e-6)


def test_training_attacks_differ_by_epoch_and_seed_and_not_by_batch_mates():
    made, examples = defense(PAT), batch()
    seeds = made.example_seeds(examples, 0)
    assert seeds.unique().numel() == 32
    assert not seeds.eq(made.example_seeds(examples, 1)).any()
    some = examples.rows(slice(5, 9))
    assert made.example_seeds(some, 0).equal(seeds[5:9])


def test_a_bound_of_zero_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        defense(PGD(threat_model=Linf(0.0)))


def test_trained_on_names_the_threat_model():
    assert defense(PAT).trained_on == ["perceptual"]
    assert NormalTraining(network(), SGD, FLAT).trained_on == []


@pytest.mark.parametrize(
    "epochs",
    [
        {"warmup_epochs": float("inf")},
        {"warmup_epochs": -1},
        {"warmup_epochs": float("nan")},
        {"drop_epochs": [-3]},
        {"drop_epochs": [float("nan")]},
        {"factor": float("inf")},
    ],
)
def test_a_warm_up_or_a_drop_at_no_time_is_refused(epochs):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ValueError, match=f"{next(iter(epochs))} is "):
        warmup_and_drops(optimizer, **{"steps_per_epoch": 10, "warmup_epochs": 1, "drop_epochs": [], **epochs})


def test_rates_warm_up_and_drop_as_published():
    """lr·(i+1)/(5·steps) in epochs 0 to 4, then × 0.1 from the first step of epochs 75 and 90."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = warmup_and_drops(optimizer, steps_per_epoch=10, warmup_epochs=5, drop_epochs=[75, 90])
    rates = []
    for _ in range(1000):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1 / 50)
    assert rates[48] == pytest.approx(0.1 * 49 / 50)
    assert rates[49] == rates[749] == pytest.approx(0.1)
    assert rates[750] == rates[899] == pytest.approx(0.01)
    assert rates[900] == rates[999] == pytest.approx(0.001)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_by_value_and_training_learns(precision):
    """A step of SGD without momentum at rate 1 moves no weight by more than the clip."""
    torch.manual_seed(0)
    made = AdversarialTraining(
        PAT, classifier=network(), optimizer=partial(torch.optim.SGD, lr=1.0), schedule=FLAT, attack_wrong=True
    )
    before = copy.deepcopy(made.classifier)
    Trainer(
        max_steps=1,
        accelerator="cpu",
        precision=precision,
        gradient_clip_val=1e-3,
        gradient_clip_algorithm="value",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
    ).fit(made, datamodule=Digits())
    moved = [(a - b).abs().max() for a, b in zip(made.classifier.parameters(), before.parameters(), strict=True)]
    assert 0 < max(moved) <= 1e-3 * (1 + 1e-4)

"""Several attacks at once: the three modes and the variation against hand-computed values."""

import copy
from functools import partial

import pytest
import torch
from lightning import Trainer
from torch.nn import functional as F

from gauntlet.attacks import PGD, Best, FastLagrangianPerceptualAttack, Last
from gauntlet.data import Batch, Digits
from gauntlet.defenses import (
    TRADES,
    AverageAttackTraining,
    MaximumAttackTraining,
    RandomAttackTraining,
    VariationRegularised,
    warmup_and_drops,
)
from gauntlet.defenses.trades import NearbyPGD, OtherPredictions, divergence
from gauntlet.defenses.variation import TwoPoints, variation
from gauntlet.distances import SelfLPIPS
from gauntlet.models import small_resnet
from gauntlet.noise import Noise
from gauntlet.threats import L2, Linf, NeuralPerceptual

SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
FLAT = partial(warmup_and_drops, warmup_epochs=0, drop_epochs=[])
ATTACKS = {
    "linf": PGD(threat_model=Linf(0.04), steps=2, step_size=0.7, iterate=Last()),
    "l2": PGD(threat_model=L2(2.0), steps=2, step_size=0.7, iterate=Last()),
}
BALL = NeuralPerceptual(SelfLPIPS(), 0.5)
PAT = FastLagrangianPerceptualAttack(threat_model=BALL, iterate=Last(), steps=2)
PAIRS = FastLagrangianPerceptualAttack(threat_model=BALL, iterate=Last(), steps=3, goal=TwoPoints())


def prepared(regime, step=0, **options):
    torch.manual_seed(0)
    made = regime(classifier=small_resnet(10, [0.3] * 3, [0.3] * 3, width=4), optimizer=SGD, schedule=FLAT, **options)
    made.log = lambda *_, **__: None
    made.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    made.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total.completed = step
    made.trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step
    return made.train()


def batch(made, count=24):
    """Two of three examples have the predicted label: they are classified correctly, the third is not."""
    some = Digits().splits.train[slice(0, count)]
    with torch.no_grad():
        predicted = copy.deepcopy(made.classifier).eval()(some.images).argmax(1)
    return Batch(some.images, torch.where(torch.arange(count) % 3 > 0, predicted, (predicted + 1) % 10), some.ids)


def shown(made, examples):
    """The adversarial images of each attack for correct examples, the others clean; by hand."""
    classifier = copy.deepcopy(made.classifier).eval()
    with torch.no_grad():
        right = classifier(examples.images).argmax(1) == examples.labels
    assert right.any()
    assert not right.all()
    result = {}
    for name, attack in ATTACKS.items():
        seeds = made.attack_seeds(name, examples, 0)
        images = examples.images.clone()
        images[right] = attack(classifier, images[right], examples.labels[right], seeds=seeds[right]).images
        result[name] = images
    return result


def per_example(made, images, labels):
    return F.cross_entropy(copy.deepcopy(made.classifier).train()(images), labels, reduction="none").detach()


def test_average_is_the_mean_over_every_attack_of_one_forward():
    made = prepared(AverageAttackTraining, attacks=ATTACKS)
    examples = batch(made)
    images = torch.cat(list(shown(made, examples).values()))
    expected = per_example(made, images, examples.labels.repeat(2)).mean()
    assert made.training_step(examples, 0).allclose(expected, rtol=1e-5)


def test_maximum_is_the_largest_loss_of_each_example():
    made = prepared(MaximumAttackTraining, attacks=ATTACKS)
    examples = batch(made)
    images = torch.cat(list(shown(made, examples).values()))
    losses = per_example(made, images, examples.labels.repeat(2)).reshape(2, -1)
    assert (losses[0] > losses[1]).any()
    assert (losses[0] < losses[1]).any()
    assert made.training_step(examples, 0).allclose(losses.amax(0).mean(), rtol=1e-5)


def test_maximum_of_one_attack_is_plain_adversarial_training():
    one = {"linf": ATTACKS["linf"]}
    a, b = prepared(MaximumAttackTraining, attacks=one), prepared(AverageAttackTraining, attacks=one)
    assert a.training_step(batch(a), 0).equal(b.training_step(batch(b), 0))


def test_random_draws_one_attack_a_step_the_same_in_every_process():
    drawn = []
    for step in range(40):
        made = prepared(RandomAttackTraining, step, attacks=ATTACKS)
        examples = batch(made)
        assert made.global_step == step
        called = []
        made.perturbed = lambda name, batch, chosen, called=called: called.append(name) or batch.images
        made.losses(examples)
        made.trainer.strategy._local_rank = 1
        made.losses(examples)
        assert called[0] == called[1]
        drawn.append(called[0])
    assert 8 < drawn.count("linf") < 32


def test_every_attack_of_a_step_has_its_own_seeds():
    """The first has the examples' own seeds; none changes with the attacks after it."""
    made = prepared(AverageAttackTraining, attacks={**ATTACKS, "third": ATTACKS["linf"]})
    examples = batch(made)
    seeds = [made.attack_seeds(name, examples, 3) for name in made.attacks]
    assert seeds[0].equal(made.example_seeds(examples, 3))
    assert torch.cat(seeds).unique().numel() == 3 * 24
    assert prepared(AverageAttackTraining, attacks=ATTACKS).attack_seeds("l2", examples, 3).equal(seeds[1])
    inside = [Noise(seeds[0]).stream(index).seeds for index in range(20)]  # goals and restarts of the first attack
    assert not any(other.equal(own) for other in inside for own in seeds[1:])
    first, third = (made.perturbed(name, examples, torch.ones(24, dtype=torch.bool)) for name in ("linf", "third"))
    assert not first.equal(third)


def test_both_points_of_a_pair_and_the_attack_have_different_starts():
    made = prepared(VariationRegularised, attack=PAT, search=PAIRS, weight=0.1)
    examples = batch(made)
    messages = []
    made.attacked = lambda attack, batch, seeds: (
        messages.append(seeds) or PAIRS(made.classifier, *batch[:2], seeds=seeds)
    )
    made.pairs(examples)
    assert torch.cat((*messages, made.attack_seeds("perceptual", examples, 0))).unique().numel() == 3 * 24


def test_trained_on_names_all_attacks():
    assert prepared(RandomAttackTraining, attacks=ATTACKS).trained_on == ["linf", "l2"]


def test_an_attack_without_a_bound_is_refused_by_name():
    with pytest.raises(ValueError, match="under no attack"):
        prepared(AverageAttackTraining, attacks={})
    with pytest.raises(ValueError, match=r"bound 0\.0 of nothing"):
        prepared(AverageAttackTraining, attacks={**ATTACKS, "nothing": PGD(threat_model=Linf(0.0))})


def test_variation_is_the_distance_of_the_two_halves():
    logits = torch.tensor([[0.0, 0.0], [1.0, 1.0], [3.0, 4.0], [1.0, 1.0]])
    assert variation(logits).tolist() == [5.0, 0.0]


def test_the_search_for_the_variation_makes_it_grow_beyond_noise():
    made = prepared(VariationRegularised, attack=PAT, search=PAIRS, weight=0.1)
    examples = batch(made)
    with torch.no_grad():
        far = variation(made.classifier.eval()(made.pairs(examples)))
        near = variation(made.classifier(examples.images.repeat(2, 1, 1, 1) + 0.01 * torch.randn(48, 3, 32, 32)))
    assert (far > 3 * near).all()


def test_the_loss_is_that_of_adversarial_images_plus_the_weighted_variation():
    made = prepared(VariationRegularised, attack=PAT, search=PAIRS, weight=0.1)
    examples = batch(made)
    images = torch.cat((made.training_images(examples, made.right(examples)), made.pairs(examples)))
    logits = copy.deepcopy(made.classifier).train()(images)
    expected = F.cross_entropy(logits[:24], examples.labels) + 0.1 * (logits[24:48] - logits[48:]).norm(dim=1).mean()
    assert made.training_step(examples, 0).allclose(expected, rtol=1e-5)


@pytest.mark.parametrize(("search", "weight"), [(PAT, 0.1), (PAIRS, -1.0)])
def test_an_invalid_regulariser_is_refused(search, weight):
    with pytest.raises(ValueError, match="expected"):
        prepared(VariationRegularised, attack=PAT, search=search, weight=weight)
    torn = PGD(threat_model=Linf(0.1), goal=TwoPoints(), iterate=Best())
    with pytest.raises(ValueError, match="best iterates"):
        prepared(VariationRegularised, attack=PAT, search=torn, weight=0.1)


KL = PGD(threat_model=Linf(0.1), steps=3, step_size=0.5, iterate=Last(), goal=OtherPredictions())


def test_divergence_is_kullback_leibler():
    p, q = torch.tensor([[0.5, 0.25, 0.25], [1 / 3] * 3]), torch.tensor([[0.25, 0.5, 0.25], [1 / 3] * 3])
    by_hand = (p * (p / q).log()).sum(1)
    assert divergence(p.log() + 3, q.log() - 1).allclose(by_hand, atol=1e-6)


def test_trades_is_clean_cross_entropy_plus_the_divergence_under_attack():
    made = prepared(TRADES, attack=KL, beta=6.0)
    examples = batch(made)
    all_examples = torch.ones(24, dtype=torch.bool)
    images = made.perturbed("linf", examples, all_examples)
    clean, other = copy.deepcopy(made.classifier).train()(torch.cat((examples.images, images))).chunk(2)
    kl = F.kl_div(other.log_softmax(1), clean.softmax(1), reduction="batchmean")
    assert made.training_step(examples, 0).allclose(F.cross_entropy(clean, examples.labels) + 6 * kl, rtol=1e-5)


def test_trades_search_increases_the_divergence_also_of_misclassified_examples():
    made = prepared(TRADES, attack=KL)
    examples = batch(made)
    classifier = made.classifier.eval()
    images = KL(classifier, examples.images, examples.labels, seeds=examples.ids).images
    noise = PGD(threat_model=Linf(0.1), steps=0, iterate=Last())(
        classifier, examples.images, examples.labels, seeds=examples.ids
    ).images
    with torch.no_grad():
        clean = classifier(examples.images)
        assert (divergence(clean, classifier(images)) > divergence(clean, classifier(noise))).all()


@pytest.mark.parametrize(("attack", "beta"), [(ATTACKS["linf"], 6.0), (KL, -1.0)])
def test_trades_refuses_invalid_arguments(attack, beta):
    with pytest.raises(ValueError, match="expected"):
        prepared(TRADES, attack=attack, beta=beta)


def test_the_published_search_starts_a_thousandth_from_the_image():
    """Before its first step: N(0, 0.001²) about x, the same for an example at any position in the batch."""
    made = prepared(TRADES, attack=KL)
    examples = batch(made)
    start = NearbyPGD(threat_model=Linf(0.1), steps=0, iterate=Last(), goal=OtherPredictions())
    images = examples.images * 0.8 + 0.1  # away from black and white, where half of the start is cut off
    moved = start(made.classifier, images, examples.labels, seeds=examples.ids).images - images
    assert moved.std().item() == pytest.approx(0.001, rel=0.02)
    assert moved.mean().abs() < 1e-5
    some = start(made.classifier, images[5:7], examples.labels[5:7], seeds=examples.ids[5:7]).images
    assert some.equal((images + moved)[5:7])
    with pytest.raises(ValueError, match="above 0"):
        NearbyPGD(threat_model=Linf(0.1), spread=0.0)


def test_the_published_search_reaches_the_divergence_of_ours():
    made = prepared(TRADES, attack=KL)
    examples = batch(made)
    options = {"threat_model": Linf(0.1), "steps": 10, "step_size": 0.25, "iterate": Last(), "goal": OtherPredictions()}
    classifier = made.classifier.eval()
    with torch.no_grad():
        clean = classifier(examples.images)
        divergences = [
            divergence(clean, classifier(search(classifier, *examples[:2], seeds=examples.ids).images)).mean().item()
            for search in (NearbyPGD(**options), PGD(**options))
        ]
    assert divergences[0] == pytest.approx(divergences[1], rel=0.3)

"""Combinations: the first success, else the lowest margin, of attacks that search one and the same threat model."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from gauntlet.attacks import PGD, Adversarial, FastLagrangianPerceptualAttack, OntoRegion, RandomChoice, WorstCase
from gauntlet.distances import LPIPS
from gauntlet.errors import NotFiniteError
from gauntlet.identity import describe, digest
from gauntlet.losses import Margin
from gauntlet.noise import Noise, mix
from gauntlet.threats import L2, Linf, NeuralPerceptual
from tests.fixtures import Counting, LinearClassifier, predictions, random_images, tapped

DOUBLE = torch.float64
BALL = Linf(0.5)


@dataclass(frozen=True)
class Shift:
    """Adds a number to every pixel, and writes down whom it saw."""

    by: float
    seen: list
    threat_model: Linf = BALL
    stays_inside: bool = True

    def __call__(self, classifier, images, labels, *, seeds: Tensor | None = None):
        self.seen.append((len(images), seeds.tolist()))
        params = torch.full_like(images, self.by)
        return Adversarial(images + params, params, BALL.around(images).size(params))


def in_turn(*shifts):
    seen = [[] for _ in shifts]
    attacks = {f"a{i}": Shift(by, seen[i]) for i, by in enumerate(shifts)}
    return WorstCase(threat_model=BALL, attacks=attacks), seen


def mean_classifier():
    """Class 0 where the mean pixel is above 0.5."""
    classifier = LinearClassifier(4, dtype=DOUBLE)
    classifier.weight.data, classifier.bias.data = torch.ones(4, dtype=DOUBLE), torch.tensor(-2.0, dtype=DOUBLE)
    return classifier


def gray(*values):
    return torch.tensor(values, dtype=DOUBLE).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()


def test_each_attack_sees_those_who_still_stand_and_the_first_success_is_returned():
    """From 0.4 all are wrong; 0.55 falls to −0.1, 0.65 to −0.2, 0.95 to nobody."""
    attack, seen = in_turn(-0.1, -0.2, -0.05)
    counting = Counting(mean_classifier())
    seeds = torch.tensor([7, 8, 9, 10])
    found = attack(counting, gray(0.4, 0.55, 0.65, 0.95), torch.zeros(4, dtype=torch.long), seeds=seeds)
    assert found.images[:, 0, 0, 0].tolist() == pytest.approx([0.4, 0.45, 0.45, 0.75])
    assert found.params[:, 0, 0, 0].tolist() == pytest.approx([0.0, -0.1, -0.2, -0.2])
    assert found.size.tolist() == pytest.approx([0.0, 0.2, 0.4, 0.4])
    assert [calls[0][0] for calls in seen] == [3, 2, 1]
    assert counting.batches == [4, 3, 2, 1]  # x and what came back; the attacks here do not look
    expected = [mix(seeds, 1 + i)[4 - count :].tolist() for i, count in enumerate((3, 2, 1))]
    assert [calls[0][1] for calls in seen] == expected


def test_when_nobody_stands_no_attack_is_asked():
    attack, seen = in_turn(-0.1, -0.2)
    found = attack(mean_classifier(), gray(0.1, 0.2), torch.zeros(2, dtype=torch.long))
    assert found.images.equal(gray(0.1, 0.2))
    assert seen == [[], []]


def test_an_attack_that_makes_things_better_for_the_label_does_not_count():
    attack, _ = in_turn(0.1)
    images = gray(0.8)
    assert attack(mean_classifier(), images, torch.zeros(1, dtype=torch.long)).images.equal(images)


def test_is_at_least_as_strong_as_each_and_falls_just_where_one_of_them_succeeds():
    classifier = tapped(classes=5, dtype=DOUBLE)
    with torch.no_grad():
        classifier.head[2].weight.mul_(3)
    images, seeds = random_images(40, 3, 6, 6, dtype=DOUBLE), torch.arange(40)
    labels = predictions(classifier, images)
    ball = Linf(0.02)
    attacks = {"short": PGD(threat_model=ball, steps=1), "long": PGD(threat_model=ball, steps=10)}
    found = WorstCase(threat_model=ball, attacks=attacks)(classifier, images, labels, seeds=seeds)
    fallen, lead = torch.zeros(40, dtype=torch.bool), torch.full((40,), -torch.inf, dtype=DOUBLE)
    for index, attack in enumerate(attacks.values()):
        alone = attack(classifier, images, labels, seeds=Noise(seeds).stream(1 + index).seeds).images
        fallen |= predictions(classifier, alone) != labels
        with torch.no_grad():
            lead = torch.maximum(lead, Margin()(classifier(alone), labels))
    assert 0 < fallen.sum() < 40
    assert (predictions(classifier, found.images) != labels).equal(fallen)
    with torch.no_grad():
        assert Margin()(classifier(found.images), labels)[~fallen].allclose(lead[~fallen], rtol=0, atol=1e-9)


def test_the_order_of_the_attacks_is_part_of_the_identity():
    one, two = PGD(threat_model=BALL, steps=1), PGD(threat_model=BALL, steps=2)
    orders = [{"one": one, "two": two}, {"two": two, "one": one}]
    assert len({digest(describe(WorstCase(threat_model=BALL, attacks=order))) for order in orders}) == 2


def test_every_attack_is_drawn_and_each_example_gets_what_the_attack_alone_gives():
    classifier = tapped(dtype=DOUBLE)
    images, seeds = random_images(60, 3, 6, 6, dtype=DOUBLE), torch.arange(60)
    labels = predictions(classifier, images)
    ball = L2(0.1)
    attacks = {"a": PGD(threat_model=ball, steps=1), "b": PGD(threat_model=ball, steps=2, step_size=0.5)}
    found = RandomChoice(threat_model=ball, attacks=attacks)(classifier, images, labels, seeds=seeds)
    matches = torch.stack(
        [
            (attack(classifier, images, labels, seeds=Noise(seeds).stream(1 + i).seeds).images - found.images)
            .flatten(1)
            .abs()
            .amax(1)
            < 1e-9
            for i, attack in enumerate(attacks.values())
        ]
    )
    assert (matches.sum(0) == 1).all()
    assert 15 < matches[0].sum() < 45


def test_a_choice_promises_what_all_promise():
    ball = NeuralPerceptual(LPIPS(tapped()), 0.5)
    free, bound = (FastLagrangianPerceptualAttack(threat_model=ball, **c) for c in ({}, {"projection": OntoRegion()}))
    assert RandomChoice(threat_model=ball, attacks={"bound": bound}).stays_inside
    assert not RandomChoice(threat_model=ball, attacks={"bound": bound, "free": free}).stays_inside
    with pytest.raises(ValueError, match=r"\['free'\] do not promise"):
        WorstCase(threat_model=ball, attacks={"bound": bound, "free": free})


@pytest.mark.parametrize("combination", [WorstCase, RandomChoice])
def test_attacks_must_search_one_threat_model(combination):
    for other in (L2(0.5), Linf(0.25)):
        with pytest.raises(ValueError, match=r"odd searches .* expected one threat model"):
            combination(threat_model=BALL, attacks={"good": PGD(threat_model=BALL), "odd": PGD(threat_model=other)})
    with pytest.raises(ValueError, match="no attacks"):
        combination(threat_model=BALL, attacks={})


@pytest.mark.parametrize("combination", [WorstCase, RandomChoice])
def test_the_weights_of_a_perceptual_ball_count_and_its_object_does_not(combination):
    balls = [NeuralPerceptual(LPIPS(tapped(seed=seed)), 0.5) for seed in (0, 0, 1)]
    combination(threat_model=balls[0], attacks={"same": PGD(threat_model=balls[1])})
    with pytest.raises(ValueError, match="odd searches"):
        combination(threat_model=balls[0], attacks={"odd": PGD(threat_model=balls[2])})


def test_nan_raises_also_where_no_attack_would_have_looked():
    classifier = mean_classifier()
    classifier.bias.data = torch.tensor(torch.nan, dtype=DOUBLE)
    with pytest.raises(NotFiniteError, match="example 0"):
        in_turn(-0.1)[0](classifier, gray(0.5), torch.zeros(1, dtype=torch.long))

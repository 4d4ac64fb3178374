"""Combinations: the first success, else the lowest margin, of attacks on one threat model or each on its own."""

from dataclasses import dataclass

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from torch import Tensor

from gauntlet.attacks import (
    PGD,
    Adversarial,
    Attack,
    FastLagrangianPerceptualAttack,
    OntoRegion,
    RandomChoice,
    WorstCase,
)
from gauntlet.config.compose import CONF, plain, register_resolvers
from gauntlet.config.instantiate import check_targets, instantiate
from gauntlet.descriptions import digest
from gauntlet.distances import LPIPS
from gauntlet.errors import NotFiniteError
from gauntlet.identity import describe
from gauntlet.losses import Margin
from gauntlet.noise import Noise, mix
from gauntlet.threats import L2, AdversarialJPEG, AnyOf, Linf, NeuralPerceptual, ReColorAdv, StAdv
from tests.fixtures import Counting, LinearClassifier, batch_of, predictions, random_images, tapped

DOUBLE = torch.float64
BALL = Linf(0.5)


@dataclass(frozen=True)
class Shift(Attack):
    """Adds a number to every pixel, and writes down whom it saw."""

    by: float
    seen: list
    threat_model: Linf = BALL
    stays_inside: bool = True

    def __call__(self, classifier, images, labels, *, seeds: Tensor | None = None):
        self.seen.append((len(images), seeds.tolist()))
        params = torch.full_like(images, self.by)
        return Adversarial(images + params, params, BALL.around(batch_of(images)).size(params))


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


def test_each_attack_gets_the_examples_still_correct_and_the_first_success_is_returned():
    """From 0.4 all are wrong; 0.55 falls to −0.1, 0.65 to −0.2, 0.95 to no attack."""
    attack, seen = in_turn(-0.1, -0.2, -0.05)
    counting = Counting(mean_classifier())
    seeds = torch.tensor([7, 8, 9, 10])
    result = attack(counting, gray(0.4, 0.55, 0.65, 0.95), torch.zeros(4, dtype=torch.long), seeds=seeds)
    assert result.images[:, 0, 0, 0].tolist() == pytest.approx([0.4, 0.45, 0.45, 0.75])
    assert result.params[:, 0, 0, 0].tolist() == pytest.approx([0.0, -0.1, -0.2, -0.2])
    assert result.size.tolist() == pytest.approx([0.0, 0.2, 0.4, 0.4])
    assert [calls[0][0] for calls in seen] == [3, 2, 1]
    assert counting.batches == [4, 3, 2, 1]  # x and the result; these attacks make no forward
    expected = [mix(seeds, 1 + i)[4 - count :].tolist() for i, count in enumerate((3, 2, 1))]
    assert [calls[0][1] for calls in seen] == expected


def test_without_a_correct_example_no_attack_is_run():
    attack, seen = in_turn(-0.1, -0.2)
    result = attack(mean_classifier(), gray(0.1, 0.2), torch.zeros(2, dtype=torch.long))
    assert result.images.equal(gray(0.1, 0.2))
    assert seen == [[], []]


def test_an_attack_that_makes_things_better_for_the_label_does_not_count():
    attack, _ = in_turn(0.1)
    images = gray(0.8)
    assert attack(mean_classifier(), images, torch.zeros(1, dtype=torch.long)).images.equal(images)


def test_it_succeeds_exactly_where_one_of_its_attacks_does():
    classifier = tapped(classes=5, dtype=DOUBLE)
    with torch.no_grad():
        classifier.head[2].weight.mul_(3)
    images, seeds = random_images(40, 3, 6, 6, dtype=DOUBLE), torch.arange(40)
    labels = predictions(classifier, images)
    ball = Linf(0.02)
    attacks = {"short": PGD(threat_model=ball, steps=1), "long": PGD(threat_model=ball, steps=10)}
    result = WorstCase(threat_model=ball, attacks=attacks)(classifier, images, labels, seeds=seeds)
    misclassified, lead = torch.zeros(40, dtype=torch.bool), torch.full((40,), -torch.inf, dtype=DOUBLE)
    for index, attack in enumerate(attacks.values()):
        alone = attack(classifier, images, labels, seeds=Noise(seeds).stream(1 + index).seeds).images
        misclassified |= predictions(classifier, alone) != labels
        with torch.no_grad():
            lead = torch.maximum(lead, Margin()(classifier(alone), labels))
    assert 0 < misclassified.sum() < 40
    assert (predictions(classifier, result.images) != labels).equal(misclassified)
    with torch.no_grad():
        assert Margin()(classifier(result.images), labels)[~misclassified].allclose(
            lead[~misclassified], rtol=0, atol=1e-9
        )


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
    result = RandomChoice(threat_model=ball, attacks=attacks)(classifier, images, labels, seeds=seeds)
    matches = torch.stack(
        [
            (attack(classifier, images, labels, seeds=Noise(seeds).stream(1 + i).seeds).images - result.images)
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
    with pytest.raises(ValueError, match=r"\['free'\] may return images outside"):
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


SPLIT = AnyOf([Linf(0.004), AdversarialJPEG(0.05), StAdv(0.1)])


def on_each(steps=3):
    """An attack of its own for every part of the union, and one on all of it."""
    members = {threat.name: PGD(threat_model=threat, steps=steps, step_size=0.5) for threat in SPLIT.members}
    return members | {"all": PGD(threat_model=SPLIT, steps=steps)}


def hard(count=60):
    """A network that about half of the examples fall for under one threat model or another."""
    classifier = tapped(classes=5, dtype=DOUBLE)
    with torch.no_grad():
        classifier.head[2].weight.mul_(2)
    images = random_images(count, 3, 6, 6, dtype=DOUBLE)
    return classifier, images, predictions(classifier, images), torch.arange(count)


def test_the_worst_of_several_threat_models_is_the_worst_of_what_each_attack_finds_alone():
    """Image by image; the params are in the place of the member, the size is a share of the member's bound."""
    classifier, images, labels, seeds = hard()
    attacks = on_each()
    result = WorstCase(threat_model=SPLIT, attacks=attacks)(classifier, images, labels, seeds=seeds)
    union = SPLIT.around(batch_of(images), classifier)
    shown, chosen = [union.perturb(union.zero())], union.chosen(result.params)
    with torch.no_grad():
        lead = Margin()(classifier(shown[0]), labels)
    expected, still_correct = torch.zeros_like(labels), lead < 0
    for index, attack in enumerate(attacks.values(), 1):
        shown.append(attack(classifier, images, labels, seeds=Noise(seeds).stream(index).seeds).images)
        with torch.no_grad():
            now = Margin()(classifier(shown[index]), labels)
        better = still_correct & (now > lead)
        expected, lead = torch.where(better, index, expected), torch.where(better, now, lead)
        still_correct &= lead < 0
    for index, alone in enumerate(shown):
        assert result.images[expected == index].allclose(alone[expected == index], rtol=0, atol=1e-9)
    assert set(expected.tolist()) >= {1, 2, 3}, "the test needs examples of every threat model"
    own = (expected > 0) & (expected < 4)
    assert chosen[own].equal(expected[own] - 1)
    for i, member in enumerate(SPLIT.members):
        region, rows = member.around(batch_of(images)), chosen == i
        shape = region.zero().shape
        params = result.params[:, 1 : 1 + shape[1:].numel()].reshape(shape)
        assert region.perturb(params)[rows].allclose(result.images[rows], rtol=0, atol=1e-12)
        assert region.size(params)[rows].allclose(result.size[rows])
    assert union.perturb(result.params).equal(result.images)
    assert (result.size <= 1 + 1e-9).all()


def test_a_worst_case_of_threat_models_leaves_no_more_than_any_part_of_it():
    classifier, images, labels, seeds = hard()
    whole = WorstCase(threat_model=SPLIT, attacks=on_each())(classifier, images, labels, seeds=seeds)
    left = predictions(classifier, whole.images) == labels
    assert 0 < left.sum() < len(labels)
    for index, attack in enumerate(on_each().values()):
        alone = attack(classifier, images, labels, seeds=Noise(seeds).stream(1 + index).seeds)
        assert (left <= (predictions(classifier, alone.images) == labels)).all()


def test_a_worst_case_under_a_union_of_one_is_that_of_the_one():
    classifier, images, labels, seeds = hard(20)
    ball = Linf(0.02)
    attacks = {"short": PGD(threat_model=ball, steps=1), "long": PGD(threat_model=ball, steps=5)}
    one, other = (
        WorstCase(threat_model=threat, attacks=attacks)(classifier, images, labels, seeds=seeds)
        for threat in (ball, AnyOf([ball]))
    )
    assert one.images.equal(other.images)
    assert one.size.equal(other.size)
    assert one.params.equal(other.params[:, 1:].reshape(one.params.shape))


def test_a_chance_among_threat_models_gives_each_example_what_its_attack_alone_gives():
    classifier, images, labels, seeds = hard(30)
    attacks = {name: attack for name, attack in on_each().items() if name != "all"}
    result = RandomChoice(threat_model=SPLIT, attacks=attacks)(classifier, images, labels, seeds=seeds)
    chosen = SPLIT.around(batch_of(images)).chosen(result.params)
    assert chosen.unique().tolist() == [0, 1, 2]
    for index, attack in enumerate(attacks.values()):
        alone = attack(classifier, images, labels, seeds=Noise(seeds).stream(1 + index).seeds)
        assert alone.images[chosen == index].allclose(result.images[chosen == index], rtol=0, atol=1e-9)
        assert alone.size[chosen == index].allclose(result.size[chosen == index])


@pytest.mark.parametrize("combination", [WorstCase, RandomChoice])
def test_a_member_of_a_union_of_another_bound_is_refused(combination):
    attacks = {"good": PGD(threat_model=Linf(0.004)), "odd": PGD(threat_model=Linf(0.006))}
    with pytest.raises(ValueError, match=r"odd searches linf of bound 0.006 .* expected the union or a member of it"):
        combination(threat_model=SPLIT, attacks=attacks)


@pytest.mark.parametrize("preset", ["paper", "strong"])
def test_the_narrow_union_is_one_attack_in_yaml(preset):
    register_resolvers()
    words = ["+attack/paper@attack_suite.attacks.narrow=narrow", "defense=normal", "attack_suite=clean"]
    words[0] = words[0].replace("paper", preset)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            "train", [*words, "+threat_model@attack_suite.attacks.narrow.threat_model=narrow"], return_hydra_config=True
        )
        HydraConfig.instance().set_config(config)
        whole = plain(config)
    check_targets(whole)
    attack = instantiate(whole["attack_suite"]["attacks"]["narrow"])
    bounds = whole["dataset"]["bounds"]
    assert type(attack) is WorstCase
    assert attack.threat_model == AnyOf(
        [Linf(bounds["linf"]), L2(bounds["l2"]), StAdv(bounds["stadv"]), ReColorAdv(bounds["recoloradv"])]
    )
    assert list(attack.attacks) == ["linf", "l2", "stadv", "recoloradv"]
    assert attack.members == (0, 1, 2, 3)
    assert list(attack.attacks["l2"].attacks) == ["apgd", "apgd_targeted", "fab", "square"]
    assert isinstance(attack.attacks["stadv"], PGD if preset == "paper" else WorstCase)


def test_nan_raises_also_where_no_attack_is_run():
    classifier = mean_classifier()
    classifier.bias.data = torch.tensor(torch.nan, dtype=DOUBLE)
    with pytest.raises(NotFiniteError, match="example 0"):
        in_turn(-0.1)[0](classifier, gray(0.5), torch.zeros(1, dtype=torch.long))

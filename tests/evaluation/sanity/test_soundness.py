"""The soundness check on a linear classifier, whose certificate and nearest images are known in closed form."""

import math
from dataclasses import dataclass, field, replace

import pytest
import torch

from gauntlet.attacks import PGD, Adversarial, Attack
from gauntlet.certificates import Certified
from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite, Grid
from gauntlet.evaluation.sanity.soundness_check import check_soundness
from gauntlet.identity import PLACE
from gauntlet.threats import L2, Linf
from gauntlet.transforms import Clean
from tests.evaluation import linear
from tests.fixtures import LinearMargin

STRONG = PGD(threat_model=L2(0.02), steps=20, step_size=0.5)


def checked(root, certificate=linear.MARGIN, one=None, **attacks):
    """What the check finds of one certificate, with a minimum-distance attack unless attacks are named."""
    return checked_by(root, Grid(chunk=8), certificate, one, **attacks)


def checked_by(root, grid, certificate=linear.MARGIN, one=None, **attacks):
    one = one or linear.model()
    suite = AttackSuite({"clean": Clean(), **(attacks or {"far": linear.FAR})}, {"margin": certificate})
    measured, folders = linear.measured(one, suite, root, grid)
    (soundness,) = check_soundness(one, suite, grid, measured, folders)
    return soundness


def raised(soundness):
    return {flag.name for flag in soundness.flags() if flag.raised}


def right_ids(one):
    return [example for example, distance in linear.true_distance(one).items() if distance]


def test_an_exact_certificate_is_not_contradicted_and_the_gap_is_closed_to_the_tolerance(tmp_path):
    one = linear.model()
    suite = AttackSuite({"far": linear.FAR}, {"margin": linear.MARGIN})
    measured, folders = linear.measured(one, suite, tmp_path)
    (soundness,) = check_soundness(one, suite, Grid(chunk=8), measured, folders)
    assert soundness.contradicted == {}
    assert soundness.wrong == []
    assert (soundness.examples, soundness.allowed, soundness.vote_only, soundness.abstained) == (24, 0.0, 0, 0)
    assert (soundness.tried, soundness.broken, soundness.multiple) == (20, 1.0, 4.0)
    assert raised(soundness) == set()
    gaps = [
        distance / radius
        for distance, radius, correct in zip(
            measured.records["far"]["distance"], measured.records["margin"]["radius"],
            measured.records["margin"]["correct"], strict=True,
        ) if correct
    ]  # fmt: skip
    assert len(gaps) == 20
    assert all(1 <= gap < 1 + 1e-4 for gap in gaps)


def test_a_radius_half_as_long_again_is_contradicted_with_the_ids(tmp_path):
    one = linear.model()
    soundness = checked(tmp_path, replace(linear.MARGIN, factor=1.5), one)
    assert soundness.contradicted == {"far": right_ids(one)}
    assert soundness.wrong == right_ids(one)
    flag = next(flag for flag in soundness.flags() if flag.name == "soundness")
    assert flag.raised
    assert flag.attack == "margin"
    assert (flag.value, flag.threshold) == (20 / 24, 0.0)
    first = ", ".join(map(str, right_ids(one)[:10]))
    assert f"examples {first} and 10 more by far" in flag.explanation


def test_an_attack_at_a_bound_contradicts_what_it_breaks_within_the_radius_and_nothing_else(tmp_path):
    """At 0.02 it breaks those nearer to the boundary; how far it went shows which radii were too long."""
    one = linear.model()
    truth = linear.true_distance(one)
    assert checked(tmp_path / "sound", one=one, strong=STRONG).contradicted == {}
    soundness = checked(tmp_path / "unsound", replace(linear.MARGIN, factor=10.0), one, strong=STRONG)
    near = [example for example in right_ids(one) if truth[example] < 0.02 * 0.999]
    expected = [example for example in near if 10 * truth[example] > 0.0201]
    certain = set(soundness.contradicted["strong"])
    assert set(expected) <= certain <= set(near)  # it may stop short of the bound
    assert expected


@dataclass(frozen=True)
class Weak(Attack):
    """Hardly moves."""

    threat_model: L2

    def __call__(self, classifier, images, labels, *, seeds=None):
        region = self.threat_model.around(linear.model().examples[slice(0, len(images))]._replace(images=images))
        params = torch.full_like(images, 1e-4 * self.threat_model.bound)
        return Adversarial(images + params, (images + params) - images, region.size(params))


def test_a_false_radius_behind_a_weak_attack_is_caught_at_a_multiple_of_it(tmp_path):
    soundness = checked(tmp_path, replace(linear.MARGIN, factor=1.5), weak=Weak(L2(0.05)))
    assert soundness.wrong == []
    assert (soundness.multiple, soundness.tried, soundness.broken) == (4.0, 20, 0.0)
    assert raised(soundness) == {"soundness power"}
    flag = next(flag for flag in soundness.flags() if flag.raised)
    assert (flag.attack, flag.value, flag.threshold) == ("margin", 1.0, 0.5)
    assert "left correct by weak within 4 times the certified radius" in flag.explanation


def test_a_strong_attack_gives_the_check_its_power(tmp_path):
    soundness = checked(tmp_path, strong=STRONG)
    assert (soundness.tried, soundness.broken) == (20, 1.0)
    assert raised(soundness) == set()


def test_power_is_never_measured_beyond_the_multiple_of_a_radius(tmp_path):
    """Examples of one octave are attacked at the multiple of the smallest radius among them."""
    one, grid = linear.model(), Grid(chunk=8, multiple=1.5)
    radii = {example: distance for example, distance in linear.true_distance(one).items() if distance}
    octaves = {}
    for example, radius in radii.items():
        octaves.setdefault(math.frexp(radius)[1], []).append(example)
    reached = [
        example for ids in octaves.values() for example in ids if radii[example] < 1.5 * min(radii[one] for one in ids)
    ]
    assert 0 < len(reached) < 20
    soundness = checked_by(tmp_path, grid, one=one, strong=STRONG)
    assert soundness.multiple == 1.5
    assert soundness.broken == pytest.approx(len(reached) / 20)


def test_the_check_of_power_is_made_on_so_many_examples(tmp_path):
    assert checked_by(tmp_path, Grid(chunk=8, probed=7)).tried == 7


def test_a_certificate_is_held_against_attacks_on_its_own_threat_model_at_whatever_bound(tmp_path):
    one, linf = linear.model(), PGD(threat_model=Linf(0.1), steps=2)
    suite = AttackSuite({"clean": Clean(), "linf": linf}, {"margin": linear.MARGIN})
    measured, folders = linear.measured(one, suite, tmp_path)
    assert check_soundness(one, suite, Grid(chunk=8), measured, folders) == []
    both = AttackSuite({"linf": linf, "far": replace(linear.FAR, threat_model=L2(0.7))}, {"margin": linear.MARGIN})
    measured, folders = linear.measured(one, both, tmp_path)
    (soundness,) = check_soundness(one, both, Grid(chunk=8), measured, folders)
    assert soundness.attacks == ["far"]


@dataclass(frozen=True, kw_only=True)
class Conditional(LinearMargin):
    """Rests on an unproven assumption."""

    @property
    def assumption(self):
        return "the optimiser converged"


def test_a_conditional_bound_is_not_checked(tmp_path):
    one = linear.model()
    suite = AttackSuite({"far": linear.FAR}, {"bound": Conditional(threat_model=L2(0.05), factor=9.0)})
    measured, folders = linear.measured(one, suite, tmp_path)
    assert check_soundness(one, suite, Grid(chunk=8), measured, folders) == []


@dataclass(frozen=True, kw_only=True)
class OtherClass(LinearMargin):
    """States the other class of every third example, at a tiny radius."""

    def __call__(self, classifier, images, noise):
        measured = super().__call__(classifier, images, noise)
        odd = torch.arange(len(images)) % 3 == 0
        predictions = torch.where(odd, 1 - measured.predictions, measured.predictions)
        return measured._replace(predictions=predictions, radius=measured.radius * 1e-3)


def test_a_certificate_of_another_class_than_the_classifiers_is_a_change_at_distance_0(tmp_path):
    one = linear.model()
    soundness = checked(tmp_path, OtherClass(threat_model=L2(0.05)), one)
    ids = one.examples.ids.tolist()
    assert soundness.contradicted == {
        "the clean images": [ids[8 * chunk + row] for chunk in range(3) for row in (0, 3, 6)]
    }


SHIFT = 0.3


@dataclass(frozen=True, kw_only=True)
class Vote(LinearMargin):
    """A certificate at confidence 0.99 about an infinite vote, whose boundary lies farther off than the classifier's.

    The classifier is the vote of fixed draws: score 0 is its boundary, and score −SHIFT that of the infinite vote. What
    fresh draws say of an image is chosen; the seeds that they are given are kept.
    """

    fresh: str = "agrees"
    seeds: list = field(default_factory=list, metadata=PLACE, compare=False)

    @property
    def confidence(self):
        return 0.99

    def __call__(self, classifier, images, noise):
        score = images.double().flatten(1) @ classifier.weight.detach() + classifier.bias.detach()
        radius = (score + SHIFT).abs() / classifier.weight.detach().norm()
        self.seeds.append(("certify", *noise.seeds.tolist()))
        return Certified((score < -SHIFT).long(), radius, torch.zeros(len(images), dtype=torch.bool))

    def predict(self, classifier, images, noise):
        if self.fresh == "raises":
            raise KeyError("sigma")
        kept = len(self.seeds)
        measured = self(classifier, images, noise)
        self.seeds[kept] = ("predict", *self.seeds[kept][1:])
        first = torch.arange(len(images)) == 0
        if self.fresh == "changes":
            return torch.where(first, 1 - measured.predictions, measured.predictions), measured.abstained
        return measured.predictions, first if self.fresh == "abstains" else measured.abstained


@pytest.fixture
def one_sided():
    """Only examples of class 0 are right, so that the infinite vote's boundary is the farther one for all."""
    return linear.model(torch.zeros(linear.COUNT, dtype=torch.long))


@pytest.fixture
def between(one_sided):
    """Right examples, and those between the two boundaries: the vote of fixed draws is of class 1 there."""
    scores = linear.score(one_sided.classifier, one_sided.examples.images)
    ids = one_sided.examples.ids
    return ids[scores >= 0].tolist(), ids[(scores < 0) & (scores >= -SHIFT)].tolist()


@pytest.mark.parametrize(("fresh", "wrong", "abstained"), [("agrees", 0, 0), ("changes", 1, 0), ("abstains", 0, 1)])
@pytest.mark.parametrize("attack", ["far", "strong"])
def test_a_vote_broken_by_fixed_draws_alone_is_no_bug(tmp_path, one_sided, between, fresh, wrong, abstained, attack):
    rival = {"far": linear.FAR, "strong": replace(STRONG, threat_model=L2(0.04))}[attack]
    soundness = checked(tmp_path, Vote(threat_model=L2(0.05), fresh=fresh), one_sided, **{attack: rival})
    right, disagreeing = between
    truth = linear.true_distance(one_sided)
    broken = [example for example in right if attack == "far" or truth[example] < 0.04]
    assert len(broken) > 5
    assert soundness.contradicted.get(attack, []) == broken[:wrong]
    assert soundness.contradicted.get("the clean images", []) == disagreeing[:wrong]
    attackers = 1 + bool(disagreeing)  # the first image of each attacker is the one that changes or abstains
    assert soundness.abstained == abstained * attackers
    assert soundness.vote_only == len(broken) + len(disagreeing) - (wrong + abstained) * attackers


def test_how_many_wrong_radii_the_confidence_allows_is_stated(tmp_path, one_sided):
    soundness = checked(tmp_path, Vote(threat_model=L2(0.05)), one_sided)
    assert soundness.allowed == pytest.approx(0.01 * 24)
    flag = next(flag for flag in soundness.flags() if flag.name == "soundness")
    assert flag.threshold == pytest.approx(0.01)
    assert not flag.raised
    assert "the confidence allows 0.24 wrong radii" in flag.explanation
    wrong = checked(tmp_path / "wrong", Vote(threat_model=L2(0.05), fresh="changes"), one_sided)
    assert "soundness" in raised(wrong)  # at least one of 24, where 0.24 are allowed


def test_fresh_draws_are_those_of_neither_the_certificate_nor_the_attack(tmp_path, one_sided):
    certificate = Vote(threat_model=L2(0.05))
    checked(tmp_path, certificate, one_sided)
    used = {seed for what, *seeds in certificate.seeds if what == "certify" for seed in seeds}
    used |= set(Grid().noise(linear.FAR, one_sided.examples[slice(0, 24)]).seeds.tolist())
    fresh = {seed for what, *seeds in certificate.seeds if what == "predict" for seed in seeds}
    assert fresh
    assert not fresh & used


def test_a_prediction_that_raises_names_the_certificate_in_one_line(tmp_path, one_sided):
    with pytest.raises(UserError, match="margin failed in the soundness check: KeyError: 'sigma': fix its predict"):
        checked(tmp_path, Vote(threat_model=L2(0.05), fresh="raises"), one_sided)


def test_kept_images_are_used_instead_of_a_new_search(tmp_path, one_sided, monkeypatch):
    expected = checked(tmp_path / "again", Vote(threat_model=L2(0.05)), one_sided)
    grid = Grid(chunk=8, keep_images=True)
    suite = AttackSuite({"clean": Clean(), "far": linear.FAR}, {"margin": Vote(threat_model=L2(0.05))})
    measured, folders = linear.measured(one_sided, suite, tmp_path / "kept", grid)
    monkeypatch.setattr("gauntlet.evaluation.sanity.soundness_check.measure_chunk", None)
    assert check_soundness(one_sided, suite, grid, measured, folders) == [expected]

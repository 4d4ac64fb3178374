"""Every attack is tried for a step on one image, so that invalid ones are refused before training begins."""

from dataclasses import dataclass, field

import pytest
import torch

from gauntlet.attacks import PGD, Adversarial, Attack, Best, Last, Square, WorstCase
from gauntlet.certificates import Certificate
from gauntlet.config.build import build_suite
from gauntlet.config.compose import CONF
from gauntlet.config.instantiate import instantiate
from gauntlet.config.rehearsal import rehearse_attack, rehearse_entry
from gauntlet.data import Batch, Digits
from gauntlet.defenses import VariationRegularised
from gauntlet.defenses.variation import TwoPoints
from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite, Kind
from gauntlet.runs.references import fitted_before, with_references, without_weights
from gauntlet.threats import L2, Linf
from gauntlet.transforms import Transform
from gauntlet.varied import COST, shortened
from tests.conftest import QUICK
from tests.defenses.regimes import DEFENSES, composed, regime
from tests.fixtures import Counting, random_images, tapped

SUITES = sorted(file.stem for file in (CONF / "attack_suite").glob("*.yaml"))


def one():
    return Batch(random_images(1, 3, 8, 8), torch.tensor([3]), torch.tensor([5]))


@pytest.mark.parametrize("suite", SUITES)
def test_every_attack_of_every_suite_is_tried_at_little_cost(fitted, suite):
    """The longest has eight attacks, three of them several in one; a transform does not ask the classifier."""
    config, data = composed("defense=normal", f"attack_suite={suite}") | {"outputs": str(fitted)}, Digits()
    classifier = Counting(tapped(classes=10))
    made = build_suite(with_references(config, fitted_before(config, data)), classifier, data)
    assert sum(classifier.batches) < 400
    searches = [name for name, entry in made.entries.items() if entry.kind is not Kind.TRANSFORM]
    assert bool(classifier.batches) == bool(searches)
    assert bool(searches) == (suite not in ("clean", "corruptions", "corruptions_imagenet"))


@pytest.mark.parametrize("suite", ["perceptual", "strong"])
def test_before_a_network_is_fitted_all_attacks_share_one(suite):
    config = without_weights(composed("defense=normal", f"attack_suite={suite}"))
    assert isinstance(instantiate(config["attack_suite"]), AttackSuite)


@pytest.mark.parametrize("name", DEFENSES)
def test_every_search_of_every_regime_is_among_those_tried(name):
    made, data, _ = regime(name)
    messages = [name for name, _, _ in made.rehearsals(data.splits.test[0])] if name != "normal" else []
    assert len(messages) == len(getattr(made, "attacks", ())) + isinstance(made, VariationRegularised)


class Stranger(Attack):
    """An attack of unknown length."""

    threat_model, called = Linf(0.1), False

    def __call__(self, classifier, images, labels, *, seeds=None):
        self.called = True


def test_a_composed_attack_is_shortened_and_an_unknown_one_is_not_run():
    ball = Linf(0.1)
    whole = WorstCase(
        threat_model=ball,
        attacks={"a": PGD(threat_model=ball, steps=100, restarts=5), "b": Square(threat_model=ball), "c": Stranger()},
    )
    short = shortened(whole)
    assert (short.attacks["a"].steps, short.attacks["a"].restarts, short.attacks["b"].queries) == (1, 1, 1)
    assert short.attacks["c"] is whole.attacks["c"]
    assert (whole.attacks["a"].steps, whole.attacks["b"].queries) == (100, 5000)
    assert shortened(PGD(threat_model=ball, steps=0)).steps == 0

    rehearse_attack(stranger := Stranger(), tapped(), one(), "stranger")
    assert not stranger.called


@dataclass(frozen=True, kw_only=True)
class Broken(PGD):
    """A search that fails at its first step."""

    def search(self, state):
        raise ValueError("no step\nand more lines")


def test_an_attack_that_fails_at_its_first_step_is_refused_in_one_line_whatever_the_label():
    for label in range(4):
        batch = one()._replace(labels=torch.tensor([label]))
        with pytest.raises(UserError, match=r"^x: no step$"):
            rehearse_attack(Broken(threat_model=Linf(0.1)), tapped(), batch, "x")


class NoFiles(Transform):
    """A transform without its images."""

    name = "fog"

    def __call__(self, batch, noise):
        raise ValueError("no images\nof fog")


@dataclass(frozen=True)
class Sampled(Certificate):
    """Records the number of samples."""

    threat_model: L2
    samples: int = field(default=100_000, metadata=COST)

    def __call__(self, classifier, images, noise):
        assert not classifier.training
        raise ValueError(f"{self.samples} samples of {len(images)} images")


@pytest.mark.parametrize(
    ("entry", "result"), [(NoFiles(), "^x: no images$"), (Sampled(L2(1.0)), "^x: 1 samples of 1 images$")]
)
def test_transforms_and_certificates_are_tried_at_little_cost_and_refused_in_one_line(entry, result):
    with pytest.raises(UserError, match=result):
        rehearse_entry(entry, tapped().train(), one(), "x")


def test_the_search_for_the_variation_is_tried_with_a_pair():
    made, data, _ = regime("at_vr")
    made.search = Broken(threat_model=Linf(0.1), goal=TwoPoints(), iterate=Last())
    *_, (name, attack, batch) = made.rehearsals(data.splits.test[0])
    assert len(batch.images) == 2
    with pytest.raises(UserError, match="no step"):
        rehearse_attack(attack, made.classifier, batch, name)


@dataclass(frozen=True, kw_only=True)
class Counted(PGD):
    """Returns the images unchanged."""

    def run(self, classifier, batch, noise):
        assert noise.seeds.equal(batch.ids)
        assert classifier(batch.images).argmax(1).equal(batch.labels)
        return Adversarial(batch.images, batch.images, batch.images.new_zeros(len(batch.images)))


def test_the_classifier_is_right_about_what_is_attacked():
    rehearse_attack(Counted(threat_model=Linf(0.1), iterate=Best()), tapped(), one(), "x")


GOAL, LEAD = "defense.attack.goal", "gauntlet.losses.LogitDifference"


@pytest.mark.parametrize(
    ("words", "result"),
    [
        (
            ("defense=at_linf", f"{GOAL}._target_=gauntlet.goals.RankedTargets", f"{GOAL}.loss._target_={LEAD}"),
            "defense attacks with linf: 9 targets and last iterates",
        ),
        (
            ("defense=pat_vr", "distance=lpips_self", f"+{GOAL}={{_target_: gauntlet.goals.RankedTargets}}"),
            "defense attacks with perceptual: 9 targets and last iterates",
        ),
    ],
)
def test_what_would_fail_at_the_first_step_is_refused_before_training(door, outputs, words, result):
    done = door("train", *words, *QUICK, f"outputs={outputs}")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert result in done.err
    assert not list(outputs.glob("digits/*/*/config.yaml"))

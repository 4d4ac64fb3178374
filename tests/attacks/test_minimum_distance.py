"""Minimum-distance attacks: what the base class promises, with an attack that is exact on a linear classifier."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from gauntlet.attacks import MinimumDistanceAttack, RandomChoice, WorstCase
from gauntlet.data import Batch
from gauntlet.errors import ThreatModelViolation
from gauntlet.kinds import Kind
from gauntlet.noise import Noise
from gauntlet.threats import L2
from tests.fixtures import DUALS, LinearClassifier, NearestOfLinear, batch_of, random_images

DOUBLE = torch.float64
SHAPE = (3, 4, 4)


def setting(count=6, dtype=DOUBLE):
    """A classifier whose boundary is near gray images, and labels all of which are right but the last two."""
    classifier = LinearClassifier(48, dtype=dtype)
    images = random_images(count, *SHAPE, dtype=dtype) * 0.2 + 0.4
    classifier.bias.data = -(images.mean(0).flatten() @ classifier.weight.data)
    labels = classifier(images).argmax(1)
    labels[-2:] = 1 - labels[-2:]
    return classifier, images, labels


def closed_form(classifier, images, threat):
    """|w·x + b| / ‖w‖ of the dual norm, `[N]`."""
    score = images.double().flatten(1) @ classifier.weight.detach().double() + classifier.bias.detach().double()
    return score.abs() / classifier.weight.detach().double().norm(p=DUALS[type(threat)])


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32])
@pytest.mark.parametrize("kind", DUALS)
def test_the_distance_to_the_boundary_of_a_linear_classifier_is_the_margin_over_the_dual_norm(kind, dtype):
    classifier, images, labels = setting(dtype=dtype)
    attack = NearestOfLinear(threat_model=kind(0.1), overshoot=1e-6 if dtype is DOUBLE else 1e-3)
    result = attack(classifier, images, labels)
    verified = attack.verify(classifier, Batch(images, labels, torch.arange(6)), result)
    expected = closed_form(classifier, images, attack.threat_model)
    expected[-2:] = 0  # wrong already
    assert verified.distance.dtype == DOUBLE
    assert verified.distance.allclose(expected, rtol=2e-6 if dtype is DOUBLE else 2e-3, atol=0)
    assert verified.inside.all()
    assert (classifier(result.images).argmax(1) != labels).all()
    assert verified.size.allclose(verified.distance / 0.1)
    assert result.size.equal(verified.size)


@pytest.mark.parametrize("kind", DUALS)
def test_the_result_does_not_depend_on_the_bound(kind):
    """Not in one bit, be the bound smaller than the distance, larger, or 0, where the size is the distance."""
    classifier, images, labels = setting()
    batch, results = Batch(images, labels, torch.arange(6)), []
    for bound in (0.0, 1e-4, 0.9):
        attack = NearestOfLinear(threat_model=kind(bound))
        result = attack.run(classifier, batch, Noise(batch.ids))
        verified = attack.verify(classifier, batch, result)
        assert verified.inside.all()
        assert verified.size.isfinite().all()
        assert verified.size.equal(verified.distance / bound if bound else verified.distance)
        results.append((result.images, result.params, verified.distance))
    for images, params, distance in results[1:]:
        assert images.equal(results[0][0])
        assert params.equal(results[0][1])
        assert distance.equal(results[0][2])


def test_where_nothing_is_found_the_image_is_the_clean_one_at_distance_0():
    classifier, images, labels = setting()
    attack = NearestOfLinear(threat_model=L2(0.1))
    result = attack(classifier, images, labels)
    assert result.images[-2:].equal(images[-2:])
    assert result.size[-2:].tolist() == [0, 0]


def test_an_image_that_is_not_what_its_params_say_is_outside():
    classifier, images, labels = setting()
    attack, batch = NearestOfLinear(threat_model=L2(0.1)), Batch(images, labels, torch.arange(6))
    result = attack.run(classifier, batch, Noise(batch.ids))
    moved = result.images.clone()
    moved[2] += 1e-9
    assert (
        attack.verify(classifier, batch, result._replace(images=moved)).inside.tolist()
        == [True] * 2 + [False] + [True] * 3
    )
    beyond = result.params.clone()
    beyond[1] = 2.0
    left = result._replace(params=beyond, images=images + beyond)
    assert attack.verify(classifier, batch, left).inside.tolist() == [True, False] + [True] * 4
    broken = result.size.clone()
    broken[0] = torch.inf  # the result of an attack that raised
    assert attack.verify(classifier, batch, result._replace(size=broken)).inside.tolist() == [False] + [True] * 5


@dataclass(frozen=True, kw_only=True)
class Asking(MinimumDistanceAttack):
    """Records how it is called, and returns given params."""

    calls: list
    moved: float = 0.0

    def nearest(self, classifier, region, labels, noise):
        parameters = list(classifier.parameters())
        self.calls.append(
            (
                len(labels),
                torch.is_grad_enabled(),
                torch.is_autocast_enabled("cpu"),
                classifier.training,
                any(parameter.requires_grad for parameter in parameters),
                noise.seeds.tolist(),
            )
        )
        return region.zero().requires_grad_() + self.moved


def test_the_classifier_is_frozen_and_in_eval_mode_in_full_precision_and_left_as_it_was():
    classifier = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(48, 3)).train()
    attack = Asking(threat_model=L2(0.1), calls=[])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        result = attack(classifier, random_images(3, *SHAPE), torch.arange(3), seeds=torch.tensor([7, 8, 9]))
    assert attack.calls == [(3, True, False, False, False, [7, 8, 9])]
    assert classifier.training
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    assert not result.images.requires_grad
    assert not result.params.requires_grad


def test_an_empty_batch_is_an_empty_result_without_a_search():
    attack, batch = Asking(threat_model=L2(0.1), calls=[]), batch_of(random_images(0, *SHAPE))
    result = attack.run(LinearClassifier(48), batch, Noise(batch.ids))
    verified = attack.verify(LinearClassifier(48), batch, result)
    assert result.images.shape == (0, *SHAPE)
    assert [len(part) for part in (result.params, result.size, *verified)] == [0] * 5
    assert not attack.calls


@pytest.mark.parametrize(("moved", "message"), [(0.9, "left \\[0, 1\\]"), (float("nan"), "made NaN")])
def test_an_attack_that_leaves_the_box_or_makes_nan_is_refused(moved, message):
    attack = Asking(threat_model=L2(0.1), calls=[], moved=moved)
    with pytest.raises(ThreatModelViolation, match=f"Asking {message}"):
        attack(LinearClassifier(48), random_images(2, *SHAPE), torch.zeros(2, dtype=torch.long))


def test_images_that_are_none_are_refused():
    attack = Asking(threat_model=L2(0.1), calls=[])
    with pytest.raises(ValueError, match="expected \\[0, 1\\]"):
        attack(LinearClassifier(48), random_images(2, *SHAPE) * 255, torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("combination", [WorstCase, RandomChoice])
def test_a_combination_at_a_bound_takes_none(combination):
    attack = NearestOfLinear(threat_model=L2(0.1))
    assert attack.kind is Kind.MINIMUM_DISTANCE
    with pytest.raises(ValueError, match="\\['far'\\] are minimum-distance attacks"):
        combination(threat_model=L2(0.1), attacks={"far": attack})

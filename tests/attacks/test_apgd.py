"""APGD: the optimum where it is known, the package's trajectory where it is not, and what every example costs."""

import pytest
import torch
from torch import nn

from gauntlet.attacks import APGD, Last, SparseAPGD
from gauntlet.attacks.apgd import Ascent, _checkpoints
from gauntlet.goals import RankedTargets, Untargeted
from gauntlet.losses import DLR, CrossEntropy, TargetedDLR
from gauntlet.threats import L1, L2, Linf, NeuralPerceptual
from gauntlet.threats.l1 import knapsack
from tests.fixtures import Counting, Ellipsoid, LinearClassifier, predictions, random_images, tapped

DOUBLE = torch.float64


def sure(classifier, images, rise):
    """Move the boundary so far away that no attack succeeds, but not so far that the cross-entropy rounds to 0."""
    score = images.flatten(1) @ classifier.weight.detach()
    classifier.bias.data = 0.6 * rise + 0.1 - score.amin()


@pytest.mark.parametrize(("threat", "dual"), [(Linf(0.1), 1), (L2(0.5), 2), (Linf(0.0), 1)])
@pytest.mark.parametrize("goal", [Untargeted(CrossEntropy()), Untargeted(DLR()), RankedTargets(TargetedDLR())])
@pytest.mark.parametrize("shape", [(3, 7, 5), (1, 1, 1)])
def test_reaches_the_worst_case_of_a_linear_classifier(threat, dual, goal, shape):
    """For logits ±(w·x + b) the margin can rise by exactly 2 · bound · ‖w‖ of the dual norm."""
    classifier = LinearClassifier(torch.Size(shape).numel(), dtype=DOUBLE)
    images, labels = torch.full((3, *shape), 0.5, dtype=DOUBLE), torch.zeros(3, dtype=torch.long)
    best = 2 * threat.bound * classifier.weight.norm(p=dual).detach()
    sure(classifier, images, best)
    attacked = APGD(threat_model=threat, goal=goal, steps=100)(classifier, images, labels).images
    rise = classifier.margin(attacked, labels) - classifier.margin(images, labels)
    assert rise.allclose(best.expand(3), rtol=0.01)


@pytest.mark.parametrize("bound", [0.0, 0.3, 2.5, 10.0])
@pytest.mark.parametrize("goal", [Untargeted(CrossEntropy()), RankedTargets(TargetedDLR())])
def test_reaches_the_worst_case_of_a_linear_classifier_in_the_l1_ball_inside_the_box(bound, goal):
    """The budget goes to the heaviest weights, each as far as [0, 1] lets it: a fractional knapsack."""
    classifier = LinearClassifier(105, dtype=DOUBLE)
    images, labels = random_images(3, 3, 7, 5, dtype=DOUBLE), torch.zeros(3, dtype=torch.long)
    weight = classifier.weight.detach().expand(3, -1)
    room = torch.where(weight > 0, images.flatten(1), 1 - images.flatten(1))
    best = 2 * (knapsack(room, weight.abs(), bound) * weight.abs()).sum(1)
    sure(classifier, images, best.amax())
    for attack, share in ((APGD, 0.99), (SparseAPGD, 0.9)):  # the paper's steps come to rest before the corner
        attacked = attack(threat_model=L1(bound), goal=goal, steps=100)(classifier, images, labels).images
        rise = classifier.margin(attacked, labels) - classifier.margin(images, labels)
        assert (rise <= best + 1e-9).all()
        assert (rise >= share * best).all()


def test_climbs_a_perceptual_ball_too():
    """For φ(x) = c Q x with orthogonal Q, the ball is an L2 ball of radius bound/c."""
    random = torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    ball = NeuralPerceptual(Ellipsoid(tapped(dtype=DOUBLE), 5 * torch.linalg.qr(random).Q), 0.3)
    classifier = LinearClassifier(12, dtype=DOUBLE)
    images, labels = torch.full((2, 3, 2, 2), 0.5, dtype=DOUBLE), torch.zeros(2, dtype=torch.long)
    best = (2 * 0.3 / 5 * classifier.weight.norm()).detach()
    sure(classifier, images, best)
    attacked = APGD(threat_model=ball)(classifier, images, labels).images
    rise = classifier.margin(attacked, labels) - classifier.margin(images, labels)
    assert rise.allclose(best.expand(2), rtol=0.02)


def test_the_checkpoints_of_a_hundred_steps_are_the_papers():
    assert [end for end, _ in _checkpoints(100)] == [22, 41, 57, 70, 80, 87, 93, 99]
    assert [length for _, length in _checkpoints(100)] == [22, 19, 16, 13, 10, 7, 6, 6]


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 37, 1000])
def test_checkpoints_lie_one_after_another_inside_the_search(steps):
    ends, lengths = [0, *(end for end, _ in _checkpoints(steps))], [length for _, length in _checkpoints(steps)]
    assert all(end - start == length > 0 for start, end, length in zip(ends, ends[1:], lengths, strict=False))
    assert ends[-1] < steps


class Recorded(APGD):
    """Writes the steps' lengths down."""

    def _step(self, state, momentum):
        LENGTHS.append(Ascent(*state.buffers).step_size.clone())
        super()._step(state, momentum)


LENGTHS = []


def test_lengths_are_halved_example_by_example():
    """One example climbs a slope without end, the other sits at a corner from the second step on."""
    classifier = LinearClassifier(2, bias=100.0, dtype=DOUBLE)
    images = torch.tensor([[0.5, 0.5], [0.5, 0.5]], dtype=DOUBLE).reshape(2, 1, 1, 2)
    LENGTHS.clear()
    Recorded(threat_model=Linf(0.1), steps=100)(classifier, images, torch.zeros(2, dtype=torch.long))
    assert LENGTHS[0].tolist() == [2.0, 2.0]
    assert LENGTHS[22].tolist() == [1.0, 1.0]  # nothing rises at the corner of the ball
    assert LENGTHS[41].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("attack", [APGD(threat_model=Linf(0.1), steps=20), SparseAPGD(threat_model=L1(1.0), steps=20)])
def test_an_example_that_has_fallen_costs_nothing(attack):
    """One is misclassified at every start, one is never misclassified."""
    classifier = LinearClassifier(4, dtype=DOUBLE)
    classifier.weight.data, classifier.bias.data = torch.ones(4, dtype=DOUBLE), torch.tensor(-2.0, dtype=DOUBLE)
    images = torch.tensor([0.1, 0.9], dtype=DOUBLE).reshape(2, 1, 1, 1).expand(2, 1, 2, 2).contiguous()
    counting = Counting(classifier)
    attack(counting, images, torch.zeros(2, dtype=torch.long), seeds=torch.arange(2))
    assert counting.batches[0] == 2
    assert counting.batches[-1] == 1
    outside = 0 if isinstance(attack, APGD) else 6 + 1 + 6 + 1  # in wider balls nothing counts but what is inside
    assert sum(size == 2 for size in counting.batches) <= 1 + outside
    assert len(counting.batches) == 20 + 1 + (2 if outside else 0)


@pytest.mark.parametrize(("classes", "tries"), [(2, 1), (3, 2), (4, 3), (10, 9), (12, 9)])
def test_there_are_nine_targets_or_all_other_classes(classes, tries):
    classifier = Counting(tapped(classes=classes, dtype=DOUBLE))
    with torch.no_grad():
        classifier.classifier.head[2].bias[0] = 100.0
    images = random_images(2, 3, 6, 6, dtype=DOUBLE)
    APGD(threat_model=Linf(0.01), goal=RankedTargets(), steps=3)(classifier, images, torch.zeros(2, dtype=torch.long))
    assert classifier.batches == [2] * (1 + tries * 4)  # one forward ranks the targets


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), L1(2.0)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_classifier_makes_no_nan(threat, value):
    classifier = tapped(dtype=DOUBLE)
    nn.init.zeros_(classifier.head[2].weight)
    images = torch.full((2, 3, 6, 6), value, dtype=DOUBLE)
    labels = predictions(classifier, images)
    attack = SparseAPGD if isinstance(threat, L1) else APGD
    for changes in ({}, {"iterate": Last()}, {"goal": Untargeted(DLR())}, {"goal": RankedTargets()}):
        result = attack(threat_model=threat, steps=8, **changes)(classifier, images, labels)
        assert result.images.isfinite().all()
        assert (result.size <= 1 + 1e-4).all()


@pytest.mark.parametrize(
    ("attack", "changes", "words"),
    [
        (APGD, {"steps": 0}, "steps ≥ 1"),
        (APGD, {"momentum": 0.0}, "momentum"),
        (APGD, {"rising": 1.5}, "rising"),
        (SparseAPGD, {"steps": 0}, "at least 1"),
        (SparseAPGD, {"radii": [3, 2]}, "expected equally many"),
        (SparseAPGD, {"radii": [3, 2, 2]}, "the last radius 1"),
        (SparseAPGD, {"shares": [0.5, 0.5, 0.5]}, "add up to 1"),
    ],
)
def test_numbers_without_a_meaning_are_refused(attack, changes, words):
    with pytest.raises(ValueError, match=words):
        attack(threat_model=L1(0.1), **changes)


def test_the_sparse_form_is_for_the_l1_ball():
    with pytest.raises(TypeError, match="use APGD for it"):
        SparseAPGD(threat_model=Linf(0.1))

"""PGD reaches the optimum where the optimum is known in closed form."""

import pytest
import torch

from gauntlet.attacks import PGD, Last
from gauntlet.distances import LPIPS
from gauntlet.goals import RandomTarget, Untargeted
from gauntlet.losses import CrossEntropy, Margin
from gauntlet.noise import Noise
from gauntlet.threats import L2, Linf, NeuralPerceptual
from tests.fixtures import Counting, Ellipsoid, LinearClassifier, batch_of, predictions, random_images, tapped

DOUBLE = torch.float64


@pytest.mark.parametrize(("threat", "dual"), [(Linf(0.1), 1), (L2(0.5), 2), (Linf(0.0), 1), (L2(0.0), 2)])
@pytest.mark.parametrize("batch", [0, 1, 5])
@pytest.mark.parametrize("shape", [(3, 7, 5), (1, 1, 1), (1, 4, 9)])
def test_reaches_the_worst_case_of_a_linear_classifier(threat, dual, batch, shape):
    """For logits ±(w·x + b) the margin can rise by exactly 2 · bound · ‖w‖ of the dual norm."""
    classifier = LinearClassifier(
        torch.Size(shape).numel(), bias=1e3, dtype=DOUBLE
    )  # so large a margin that no example is dropped
    images = torch.full((batch, *shape), 0.5, dtype=DOUBLE)
    labels = torch.zeros(batch, dtype=torch.long)

    attacked = PGD(threat_model=threat, steps=50)(classifier, images, labels).images
    rise = classifier.margin(attacked, labels) - classifier.margin(images, labels)

    assert rise.allclose(2 * threat.bound * classifier.weight.norm(p=dual).detach().expand(batch), rtol=0.01)


@pytest.mark.parametrize("label", [0, 1])
def test_reaches_the_worst_case_where_the_box_cuts_the_linf_ball(label):
    """Every pixel goes as far as the ball or [0, 1] lets it."""
    classifier = LinearClassifier(105, bias=1e3 if label == 0 else -1e3, dtype=DOUBLE)
    images = random_images(4, 3, 7, 5, dtype=DOUBLE).mul(1.6).sub(0.3).clamp(0, 1)
    labels = torch.full((4,), label)
    away = (-1 if label == 0 else 1) * classifier.weight.detach().sign().reshape(3, 7, 5)
    worst = (images + 0.2 * away).clamp(0, 1)
    attacked = PGD(threat_model=Linf(0.2), steps=40)(classifier, images, labels).images
    assert attacked.allclose(worst, rtol=0, atol=1e-12)


def test_comes_close_to_the_worst_case_where_the_box_cuts_the_l2_ball():
    """The optimum is δ = clamp(t·w) with t such that ‖δ‖ = bound; found by bisection on t."""
    classifier = LinearClassifier(48, bias=1e3, dtype=DOUBLE)
    images = random_images(3, 3, 4, 4, dtype=DOUBLE)
    labels = torch.zeros(3, dtype=torch.long)
    along = -classifier.weight.detach().reshape(3, 4, 4)
    low, high = torch.zeros(3, 1, 1, 1, dtype=DOUBLE), torch.full((3, 1, 1, 1), 100.0, dtype=DOUBLE)
    for _ in range(100):
        t = (low + high) / 2
        far = ((images + t * along).clamp(0, 1) - images).flatten(1).norm(dim=1).reshape(3, 1, 1, 1) > 1.5
        low, high = torch.where(far, low, t), torch.where(far, t, high)
    best = classifier.margin((images + low * along).clamp(0, 1), labels)
    attacked = PGD(threat_model=L2(1.5), steps=200, step_size=0.05)(classifier, images, labels).images
    start = classifier.margin(images, labels)
    rise = (classifier.margin(attacked, labels) - start) / (best - start)
    assert (rise <= 1 + 1e-9).all()
    assert (rise > 0.97).all()


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_reaches_the_worst_case_of_a_perceptual_ball_that_is_round(scale):
    """For φ(x) = c Q x with orthogonal Q, the ball is an L2 ball of radius bound/c."""
    random = torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    distance = Ellipsoid(tapped(dtype=DOUBLE), scale * torch.linalg.qr(random).Q)
    classifier = LinearClassifier(12, bias=1e3, dtype=DOUBLE)
    images, labels = torch.full((3, 3, 2, 2), 0.5, dtype=DOUBLE), torch.zeros(3, dtype=torch.long)
    attacked = PGD(threat_model=NeuralPerceptual(distance, 0.3), steps=100, step_size=0.1)(
        classifier, images, labels
    ).images
    rise = classifier.margin(attacked, labels) - classifier.margin(images, labels)
    assert rise.allclose((2 * 0.3 / scale * classifier.weight.norm()).detach().expand(3), rtol=0.02)
    assert (rise <= 2 * 0.3 / scale * classifier.weight.norm()).all()


@pytest.mark.parametrize("loss", [Margin(), CrossEntropy()])
def test_reaches_the_worst_case_with_either_loss_and_towards_a_target(loss):
    classifier = LinearClassifier(12, bias=3.0, dtype=DOUBLE)
    images, labels = torch.full((3, 3, 2, 2), 0.5, dtype=DOUBLE), torch.zeros(3, dtype=torch.long)
    for goal in (Untargeted(loss), RandomTarget(loss)):
        attack = PGD(threat_model=Linf(0.01), steps=30, goal=goal)
        rise = classifier.margin(attack(classifier, images, labels).images, labels) - classifier.margin(images, labels)
        assert rise.allclose((0.02 * classifier.weight.abs().sum()).detach().expand(3), rtol=1e-6)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)])
def test_no_steps_give_the_start(threat):
    images, labels, seeds = random_images(4, 3, 4, 4), torch.zeros(4, dtype=torch.long), torch.arange(4)
    start = threat.around(batch_of(images)).start(Noise(seeds))
    for changes in ({}, {"iterate": Last()}):
        result = PGD(threat_model=threat, steps=0, **changes)(LinearClassifier(48), images, labels, seeds=seeds)
        assert result.images.allclose(images + start, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("steps", "step_size"), [(-1, 0.1), (5, 0.0), (5, -0.1)])
def test_numbers_without_a_meaning_are_refused(steps, step_size):
    with pytest.raises(ValueError, match="expected steps ≥ 0 and a finite step_size > 0"):
        PGD(threat_model=Linf(0.1), steps=steps, step_size=step_size)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_last_returns_the_last_iterate(steps):
    """Beside Madry et al. 2018 §2.1 in plain tensors; steps this long overshoot, so the last is not the best."""
    classifier = tapped(dtype=DOUBLE)
    images, seeds = random_images(4, 3, 6, 6, dtype=DOUBLE), torch.arange(4)
    labels = predictions(classifier, images)
    region = Linf(0.1).around(batch_of(images))

    changed = images + region.start(Noise(seeds))
    for _ in range(steps):
        changed.requires_grad_()
        logits = classifier(changed)
        others = logits.masked_fill(torch.nn.functional.one_hot(labels, 4).bool(), -torch.inf).amax(1)
        (gradient,) = torch.autograd.grad((others - logits[range(4), labels]).sum(), changed)
        changed = (changed.detach() + 0.13 * gradient.sign()).clamp(images - 0.1, images + 0.1).clamp(0, 1)

    result = PGD(threat_model=Linf(0.1), steps=steps, step_size=1.3, iterate=Last())(
        classifier, images, labels, seeds=seeds
    )
    assert result.images.allclose(changed, rtol=0, atol=1e-12)


def test_best_is_at_least_as_good_as_last_and_somewhere_better():
    classifier = tapped(dtype=DOUBLE)
    images, seeds = random_images(30, 3, 6, 6, dtype=DOUBLE), torch.arange(30)
    labels = predictions(classifier, images)
    lead = {}
    for name, changes in {"best": {}, "last": {"iterate": Last()}}.items():
        attack = PGD(threat_model=Linf(0.005), steps=7, step_size=1.9, **changes)
        with torch.no_grad():
            lead[name] = Margin()(classifier(attack(classifier, images, labels, seeds=seeds).images), labels)
    held = lead["best"] < 0  # a success of Best stops climbing
    assert held.any()
    assert (lead["best"] >= lead["last"])[held].all()
    assert (lead["best"] > lead["last"]).any()
    assert (lead["best"] >= 0)[lead["last"] > 0].all()


def test_best_lets_examples_go_once_they_are_wrong():
    """Margins in steps: the larger the margin, the later the success, the more forwards."""
    classifier = LinearClassifier(4, dtype=DOUBLE)
    classifier.weight.data = torch.ones(4, dtype=DOUBLE)
    classifier.bias.data = torch.tensor(-2.0, dtype=DOUBLE)
    lead = torch.tensor([-0.01, 0.005, 0.05, 0.09, 0.3], dtype=DOUBLE)  # one is wrong at once, one stays correct
    images = (0.5 + lead).reshape(5, 1, 1, 1).expand(5, 1, 2, 2).contiguous()
    labels = torch.zeros(5, dtype=torch.long)
    labels[0] = 0
    counting = Counting(classifier)

    result = PGD(threat_model=Linf(0.1), steps=10, step_size=0.25)(counting, images, labels, seeds=torch.arange(5))

    assert predictions(classifier, result.images).tolist() == [1, 1, 1, 1, 0]
    assert sorted(counting.batches, reverse=True) == counting.batches
    assert counting.batches[0] == 5
    assert counting.batches[-1] == 1
    assert len(counting.batches) == 11  # ten steps, and an evaluation of the last point
    assert sum(counting.batches) < 5 + 10 + 4 * 10


def test_when_all_are_wrong_at_the_start_one_evaluation_is_enough():
    classifier = Counting(LinearClassifier(12, bias=100.0))
    images, seeds = random_images(3, 3, 2, 2), torch.arange(3)
    result = PGD(threat_model=Linf(0.1), steps=10)(classifier, images, torch.ones(3, dtype=torch.long), seeds=seeds)
    assert classifier.batches == [3]
    assert result.images.allclose(images + Linf(0.1).around(batch_of(images)).start(Noise(seeds)), atol=1e-7)


def test_a_fallen_example_is_the_one_that_was_confirmed():
    """What comes back is wrong, whatever its batch-mates did afterwards."""
    classifier = tapped(classes=5)
    with torch.no_grad():
        classifier.head[2].weight.mul_(3)
    images = random_images(60, 3, 6, 6)
    labels = predictions(classifier, images)
    counting = Counting(classifier)
    result = PGD(threat_model=Linf(0.03), steps=10)(counting, images, labels, seeds=torch.arange(60))
    misclassified = predictions(classifier, result.images) != labels
    assert 0 < misclassified.sum() < 60
    assert (
        60 - misclassified.sum() <= counting.batches[-1] <= 60 - misclassified.sum() + 60 - min(counting.batches[:-1])
    )


def test_last_runs_all_steps_on_every_example():
    counting = Counting(LinearClassifier(12, bias=-100.0))
    PGD(threat_model=Linf(0.1), steps=6, iterate=Last())(
        counting, random_images(4, 3, 2, 2), torch.zeros(4, dtype=torch.long)
    )
    assert counting.batches == [4] * 6


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), NeuralPerceptual(LPIPS(tapped(dtype=DOUBLE)), 0.2)])
def test_a_constant_classifier_and_black_images_make_no_nan(threat):
    classifier = tapped(dtype=DOUBLE)
    torch.nn.init.zeros_(classifier.head[2].weight)
    labels = predictions(classifier, torch.zeros(2, 3, 6, 6, dtype=DOUBLE))
    for images in (torch.zeros(2, 3, 6, 6, dtype=DOUBLE), torch.ones(2, 3, 6, 6, dtype=DOUBLE)):
        for changes in ({}, {"iterate": Last()}):
            result = PGD(threat_model=threat, steps=3, **changes)(classifier, images, labels)
            assert result.images.isfinite().all()
            assert (result.size <= 1 + 1e-4).all()

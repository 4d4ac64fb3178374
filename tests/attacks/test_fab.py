"""FAB: exact projections onto hyperplanes in the box, and exact distances to the boundary of a linear classifier."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from gauntlet.attacks import FAB, Last
from gauntlet.attacks.hyperplanes import move_l1, move_l2, move_linf, mover, onto_hyperplane
from gauntlet.distances import LPIPS
from gauntlet.goals import RankedTargets, Untargeted
from gauntlet.losses import CrossEntropy, LogitDifference, Margin
from gauntlet.threats import L1, L2, Linf, NeuralPerceptual
from tests.fixtures import Counting, LinearClassifier, batch_of, predictions, random_images, tapped

DOUBLE = torch.float64
MOVERS = {"linf": (move_linf, torch.inf), "l2": (move_l2, 2), "l1": (move_l1, 1)}
every_mover = pytest.mark.parametrize(("move", "norm"), MOVERS.values(), ids=MOVERS)


def drawn(seed, count=6, features=5):
    """Points, weights and rises: some weights 0, some points on the box, some rises too much for it."""
    random = np.random.default_rng(seed)
    points = random.uniform(-0.2, 1.2, (count, features)).clip(0, 1)
    weights = random.normal(size=(count, features)) * (random.uniform(size=(count, features)) < 0.8)
    return points, weights, random.normal(size=count) * random.choice([0.1, 1, 3], count)


def reach(points, weights, rise):
    """How far w·change can go in [0, 1], in the direction of the rise."""
    along = weights * np.where(rise < 0, -1, 1)[:, None]
    return (np.abs(weights) * np.where(along > 0, 1 - points, np.where(along < 0, points, 0))).sum(1)


@every_mover
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_the_change_brings_the_rise_inside_the_box(move, norm, seed):
    points, weights, rise = drawn(seed)
    change = onto_hyperplane(*(torch.from_numpy(part) for part in (points, weights, rise)), move).numpy()
    brought = np.minimum(np.abs(rise), reach(points, weights, rise)) * np.sign(rise)
    np.testing.assert_allclose((weights * change).sum(1), brought, atol=1e-12)
    assert (points + change >= -1e-15).all()
    assert (points + change <= 1 + 1e-15).all()


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_no_other_change_is_smaller(seed):
    """Linear programs for L∞ and L1, a quadratic one for L2."""
    points, weights, rise = drawn(seed, count=1)
    if abs(rise[0]) > reach(points, weights, rise)[0]:
        return
    x, w, r = points[0], weights[0], rise[0]
    tensors = [torch.from_numpy(part) for part in (points, weights, rise)]
    result = {name: onto_hyperplane(*tensors, move)[0].norm(p=norm).item() for name, (move, norm) in MOVERS.items()}

    d = len(x)
    split = np.concatenate((w, -w))
    one = linprog(np.ones(2 * d), A_eq=split[None], b_eq=[r], bounds=[(0, v) for v in (*(1 - x), *x)])
    assert result["l1"] == pytest.approx(one.fun, abs=1e-9)
    above = np.concatenate((split, [0]))[None]
    below = np.concatenate((np.eye(2 * d), -np.ones((2 * d, 1))), 1)
    bounds = [*[(0, v) for v in (*(1 - x), *x)], (0, None)]
    top = linprog(np.eye(2 * d + 1)[-1], A_ub=below, b_ub=np.zeros(2 * d), A_eq=above, b_eq=[r], bounds=bounds)
    assert result["linf"] == pytest.approx(top.fun, abs=1e-9)
    two = minimize(
        lambda change: (change**2).sum(),
        onto_hyperplane(*tensors, move_linf)[0].numpy(),
        jac=lambda change: 2 * change,
        bounds=list(zip(-x, 1 - x, strict=True)),
        constraints={"type": "eq", "fun": lambda change: w @ change - r, "jac": lambda change: w},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert result["l2"] <= np.sqrt(two.fun) + 1e-6


def test_what_the_heavy_pixels_bring_altogether_is_brought_beside_pixels_that_weigh_nearly_nothing():
    generator = torch.Generator().manual_seed(0)
    points, weights = torch.rand(2, 500, 12, generator=generator, dtype=torch.float64)
    weights[:, 6:] *= 1e-18
    rise = ((1 - points) * weights)[:, :6].sum(1)
    for move in (move_linf, move_l2):
        change = onto_hyperplane(points, weights, rise, move)
        assert (weights * change).sum(1).allclose(rise, rtol=1e-12)


@every_mover
def test_weights_that_are_all_zero_move_nothing(move, norm):
    change = onto_hyperplane(torch.rand(2, 3, 2, 2), torch.zeros(2, 3, 2, 2), torch.tensor([1.0, -1.0]), move)
    assert change.equal(torch.zeros(2, 3, 2, 2))


@every_mover
def test_no_rise_and_no_examples_move_nothing(move, norm):
    points = random_images(3, 1, 2, 2)
    assert onto_hyperplane(points, torch.ones_like(points), torch.zeros(3), move).equal(torch.zeros_like(points))
    assert onto_hyperplane(points[:0], points[:0], torch.zeros(0), move).shape == (0, 1, 2, 2)


@every_mover
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_the_weights_does_not_matter(move, norm, scale):
    points, weights, rise = (torch.from_numpy(part) for part in drawn(3))
    plain = onto_hyperplane(points, weights, rise, move)
    assert onto_hyperplane(points, weights * scale, rise * scale, move).allclose(plain, rtol=1e-9)


@pytest.mark.parametrize(("threat", "dual"), [(Linf(0.2), 1), (L2(2.0), 2), (L1(4.0), torch.inf)])
@pytest.mark.parametrize("shape", [(3, 7, 5), (1, 2, 2)])
def test_finds_the_distance_to_the_hyperplane_of_a_linear_classifier(threat, dual, shape):
    """|w·x + b| / ‖w‖ of the dual norm, to a thousandth beyond it: on the boundary itself nothing is won."""
    classifier = LinearClassifier(torch.Size(shape).numel(), dtype=DOUBLE)
    images = torch.full((4, *shape), 0.5, dtype=DOUBLE)
    images += 0.01 * random_images(4, *shape, dtype=DOUBLE)
    nearest = 0.3 * classifier.weight.detach().abs().amax() / classifier.weight.numel() ** 0.5  # far from the box
    classifier.bias.data = nearest - (images.flatten(1) @ classifier.weight.detach()).amin()
    labels = torch.zeros(4, dtype=torch.long)
    distance = ((images.flatten(1) @ classifier.weight + classifier.bias) / classifier.weight.norm(p=dual)).detach()
    for goal in (Untargeted(Margin()), RankedTargets(LogitDifference(), targets=1)):
        result = FAB(threat_model=threat, goal=goal, iterate=Last(), steps=20)(classifier, images, labels)
        assert (predictions(classifier, result.images) == 1).all()
        size = result.size * threat.bound
        assert (size >= distance * (1 - 1e-9)).all()
        assert size.allclose(distance, rtol=2e-3)


@pytest.mark.parametrize("threat", [Linf(1.0), L2(6.9), L1(48.0)])
def test_finds_the_distance_also_where_the_box_is_in_the_way(threat):
    classifier = LinearClassifier(48, dtype=DOUBLE)
    images = random_images(4, 3, 4, 4, dtype=DOUBLE)
    score = images.flatten(1) @ classifier.weight.detach()
    lowest = classifier.weight.detach().clamp(max=0).sum()
    classifier.bias.data = -(0.4 * score.amin() + 0.6 * lowest)  # every image can be carried over, some far
    labels = torch.zeros(4, dtype=torch.long)
    rise = -(score + classifier.bias.detach())
    nearest = onto_hyperplane(images, classifier.weight.detach().expand(4, -1), rise, mover(threat))
    result = FAB(threat_model=threat, goal=Untargeted(Margin()), iterate=Last())(classifier, images, labels)
    best = threat.around(batch_of(images)).size(nearest)
    assert (predictions(classifier, result.images) == 1).all()
    assert (result.size >= best * (1 - 1e-9)).all()
    assert result.size.allclose(best, rtol=1e-2)


@pytest.mark.parametrize("threat", [Linf, L2, L1])
def test_breaks_an_example_just_where_the_boundary_is_inside_the_bound(threat):
    classifier = LinearClassifier(48, bias=0.5, dtype=DOUBLE)
    classifier.weight.data -= classifier.weight.data.mean()
    images, labels = torch.full((1, 3, 4, 4), 0.5, dtype=DOUBLE), torch.zeros(1, dtype=torch.long)
    distance = (0.5 / classifier.weight.norm(p={Linf: 1, L2: 2, L1: torch.inf}[threat])).item()
    for share, misclassified in ((0.99, False), (1.01, True)):
        result = FAB(threat_model=threat(share * distance), goal=RankedTargets(LogitDifference()))(
            classifier, images, labels
        )
        assert (predictions(classifier, result.images) != labels).item() == misclassified
        assert result.size.item() <= 1 + 1e-4


def test_an_example_that_has_fallen_costs_nothing():
    """One is next to the boundary, one far from it."""
    classifier = LinearClassifier(4, dtype=DOUBLE)
    classifier.weight.data, classifier.bias.data = torch.ones(4, dtype=DOUBLE), torch.tensor(-2.0, dtype=DOUBLE)
    images = torch.tensor([0.51, 0.9], dtype=DOUBLE).reshape(2, 1, 1, 1).expand(2, 1, 2, 2).contiguous()
    counting = Counting(classifier)
    FAB(threat_model=Linf(0.1), steps=10)(counting, images, torch.zeros(2, dtype=torch.long))
    assert counting.batches[:3] == [2, 2, 2]  # the ranks, x, and the point beyond the boundary
    assert set(counting.batches[3:]) == {1}
    assert len(counting.batches) == 1 + 2 * 10 + 1 + 3 + 1


def test_later_restarts_start_elsewhere():
    classifier = tapped(dtype=DOUBLE)
    with torch.no_grad():
        classifier.head[2].bias[0] = 5.0
    images, labels = random_images(2, 3, 6, 6, dtype=DOUBLE), torch.zeros(2, dtype=torch.long)
    seen = []
    classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    FAB(threat_model=L2(0.5), goal=Untargeted(Margin()), steps=1, restarts=2)(classifier, images, labels)
    half = len(seen) // 2
    assert seen[0].equal(images)
    lengths = (seen[half] - images).flatten(1).norm(dim=1)
    assert ((lengths > 0.1) & (lengths <= 0.25 + 1e-9)).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"goal": Untargeted(CrossEntropy())}, "gain that is 0 on the boundary"),
        ({"threat_model": NeuralPerceptual(LPIPS(tapped()), 0.5)}, "FAB searches Linf, L2 and L1"),
        ({"steps": 0}, "steps ≥ 1"),
        ({"overshoot": 0.9}, "overshoot"),
        ({"backward": 1.0}, "backward"),
        ({"iterate": Last()}, "targets=1"),
    ],
)
def test_what_has_no_meaning_is_refused(changes, words):
    with pytest.raises((TypeError, ValueError), match=words):
        FAB(**{"threat_model": Linf(0.1)} | changes)

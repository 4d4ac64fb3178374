"""The L1 ball inside [0, 1]: the exact projection, and the optimum of a linear classifier."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from gauntlet.attacks import PGD
from gauntlet.noise import Noise
from gauntlet.threats import L1
from gauntlet.threats.l1 import knapsack, onto_ball_and_box
from tests.fixtures import LinearClassifier, batch_of, random_images

DOUBLE = torch.float64


def nearest(requested, x, bound):
    """The projection by bisection on the multiplier in numpy, from its optimality conditions alone."""
    room = np.where(requested > 0, 1 - x, x)

    def shrunk(multiplier):
        return np.clip(np.abs(requested) - multiplier, 0, room)

    if shrunk(0).sum() <= bound:
        return np.sign(requested) * shrunk(0)
    root = optimize.brentq(lambda m: shrunk(m).sum() - bound, 0, np.abs(requested).max(), xtol=1e-15, rtol=1e-15)
    return np.sign(requested) * shrunk(root)


def best_rise(classifier, images, bound):
    """The most that w·x can fall in the ball: the steepest pixels go to their ends until the budget is spent."""
    weight = classifier.weight.detach().numpy()
    order, rises = np.argsort(-np.abs(weight)), []
    for x in images.flatten(1).numpy():
        left, rise = bound, 0.0
        for i in order:
            paid = min(left, x[i] if weight[i] > 0 else 1 - x[i])
            rise, left = rise + abs(weight[i]) * paid, left - paid
        rises.append(2 * rise)
    return torch.tensor(rises, dtype=DOUBLE)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10**6), pixels=st.integers(1, 12), bound=st.sampled_from([0.0, 1e-6, 0.1, 0.7, 2.0, 5.0, 12.0]),
    scale=st.sampled_from([1e-3, 0.3, 1.0, 30.0]), levels=st.sampled_from([0, 2, 5]),
)  # fmt: skip
def test_the_projection_is_the_nearest_point(seed, pixels, bound, scale, levels):
    """Ties and pixels at both ends of [0, 1] included: rounded numbers make many."""
    random = np.random.default_rng(seed)
    x, requested = random.random((3, pixels)), scale * random.standard_normal((3, pixels))
    if levels:
        x, requested = np.round(x * levels) / levels, scale * np.round(requested / scale * levels) / levels
    result = onto_ball_and_box(torch.from_numpy(requested), torch.from_numpy(x), bound).numpy()
    expected = np.stack([nearest(w, own, bound) for w, own in zip(requested, x, strict=True)])
    np.testing.assert_allclose(result, expected, atol=1e-12 * max(1, scale))


@pytest.mark.parametrize("seed", range(5))
def test_the_projection_agrees_with_a_solver_that_knows_nothing_of_it(seed):
    """SLSQP on δ = u − v with u, v ≥ 0, u + v adding up to at most the bound."""
    random = np.random.default_rng(seed)
    x, requested = random.random(4), random.standard_normal(4)
    solved = optimize.minimize(
        lambda uv: np.square(uv[:4] - uv[4:] - requested).sum(),
        np.zeros(8),
        bounds=[(0, 1 - own) for own in x] + [(0, own) for own in x],
        constraints={"type": "ineq", "fun": lambda uv: 0.6 - uv.sum()},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    result = onto_ball_and_box(torch.from_numpy(requested)[None], torch.from_numpy(x)[None], 0.6)[0].numpy()
    np.testing.assert_allclose(result, solved.x[:4] - solved.x[4:], atol=1e-5)


def test_clamping_after_the_ball_would_waste_the_budget():
    """The case for minding the box: a pixel that is at its end gives its share to the others."""
    images = torch.tensor([1.0, 0.5]).reshape(1, 1, 1, 2)
    delta = L1(0.4).around(batch_of(images)).project(torch.tensor([1.0, 0.4]).reshape(1, 1, 1, 2))
    assert delta.flatten().allclose(torch.tensor([0.0, 0.4]))  # the ball alone leaves (0.5, -0.1) → nothing


def test_half_a_million_pixels_are_projected_to_the_bound():
    images = random_images(1, 3, 400, 400)
    region = L1(300.0).around(batch_of(images))
    delta = region.project(torch.randn(1, 3, 400, 400, generator=torch.Generator().manual_seed(0)))
    assert abs(delta.double().abs().sum().item() - 300) < 1e-3
    assert ((images + delta >= 0) & (images + delta <= 1)).all()


def test_a_knapsack_takes_the_worthiest_first_and_the_first_of_equals():
    taken = knapsack(torch.tensor([[1.0, 2, 3, 1]]), torch.tensor([[1.0, 5, 5, 9]]), 4.5)
    assert taken.tolist() == [[0, 2, 1.5, 1]]
    assert knapsack(torch.ones(1, 3), torch.ones(1, 3), 9.0).tolist() == [[1, 1, 1]]
    assert knapsack(torch.ones(0, 3), torch.ones(0, 3), 1.0).shape == (0, 3)


@pytest.mark.parametrize("bound", [0.0, 0.05, 0.5, 3.0, 20.0, 105.0])
@pytest.mark.parametrize("batch", [0, 1, 4])
@pytest.mark.parametrize("step_size", [0.1, 0.3])
def test_pgd_reaches_the_worst_case_of_a_linear_classifier(bound, batch, step_size):
    """Within 1 % where the box cuts the ball, from a start spread over all pixels."""
    classifier = LinearClassifier(105, bias=1e3, dtype=DOUBLE)
    images = random_images(batch, 3, 7, 5, dtype=DOUBLE).mul(1.4).sub(0.2).clamp(0, 1)
    labels = torch.zeros(batch, dtype=torch.long)
    attacked = PGD(threat_model=L1(bound), steps=40, step_size=step_size)(
        classifier, images, labels, seeds=torch.arange(batch)
    ).images
    rise = classifier.margin(attacked, labels) - classifier.margin(images, labels)
    best = best_rise(classifier, images, bound)
    assert (rise <= best * (1 + 1e-9) + 1e-9).all()
    assert (rise >= 0.99 * best - 1e-9).all()


def test_a_step_is_as_long_as_asked_and_goes_to_the_steepest():
    region = L1(2.0).around(batch_of(torch.full((1, 1, 2, 5), 0.5, dtype=DOUBLE)))
    gradient = torch.tensor([9.0, -8, 7, -6, 0.5, 0.4, 0.3, 0.2, 0.1, 0], dtype=DOUBLE).reshape(1, 1, 2, 5)
    for scale in (1e-30, 1.0, 1e6):
        moved = region.ascend(region.zero(), scale * gradient, 0.2).flatten()
        assert moved.tolist() == pytest.approx([0.1, -0.1, 0.1, -0.1, 0, 0, 0, 0, 0, 0])


def test_it_starts_uniformly_in_the_ball():
    """‖δ‖₁ is bound · U^(1/D), every pixel and sign like another, where the box is far."""
    start = (
        L1(0.4).around(batch_of(torch.full((3000, 1, 2, 3), 0.5))).start(Noise(torch.arange(3000))).flatten(1).double()
    )
    assert stats.kstest(((start.abs().sum(1) / 0.4) ** 6).numpy(), "uniform").pvalue > 1e-3
    shares = start / start.abs().sum(1, keepdim=True)
    assert shares.mean(0).abs().max() < 0.02
    assert shares.abs().mean(0).allclose(torch.full((6,), 1 / 6, dtype=DOUBLE), atol=0.01)


@pytest.mark.parametrize("bound", [-1, float("nan"), float("inf")])
def test_a_negative_or_infinite_bound_is_refused(bound):
    with pytest.raises(ValueError, match="is negative"):
        L1(bound)


@pytest.mark.parametrize("bound", [3073, 12 * 255 + 20])
def test_a_bound_beyond_any_change_says_what_to_write(bound):
    with pytest.raises(ValueError, match="divide by 255"):
        L1(bound).around(batch_of(torch.zeros(2, 3, 32, 32)))

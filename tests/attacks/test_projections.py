"""The ways back into the ball: never outside, nothing wasted, no example moved by another."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gauntlet.attacks import Bisection, Newton, NoProjection, OntoRegion, OvershootingNewton
from gauntlet.distances import LPIPS
from gauntlet.threats import Linf, NeuralPerceptual
from gauntlet.threats.crossing import crossing
from tests.fixtures import Ellipsoid, batch_of, numpy_distance, random_images, tapped

DOUBLE = torch.float64
TIGHT = {"bisection": Bisection(), "newton": Newton(), "onto region": OntoRegion()}
ALL = TIGHT | {"overshooting newton": OvershootingNewton()}
every = pytest.mark.parametrize("projection", ALL.values(), ids=ALL)
tight = pytest.mark.parametrize("projection", TIGHT.values(), ids=TIGHT)


def setting(bound=0.3, count=6, dtype=DOUBLE, seed=0):
    network = tapped(dtype=dtype, seed=seed, activation=torch.nn.Softplus)
    images = random_images(count, 3, 6, 5, dtype=dtype, seed=seed).mul(0.8).add(0.1)
    return network, images, NeuralPerceptual(LPIPS(network), bound).around(batch_of(images))


def wild(images, spread=0.5, seed=0):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return (spread * noise).to(images)


@every
def test_what_is_inside_stays_as_it_is(projection):
    _, images, region = setting()
    delta = wild(images, 0.01)
    assert (region.size(delta) < 1).all()
    assert projection(region, delta).allclose(delta, rtol=0, atol=1e-15)
    assert projection(region, projection(region, wild(images))).equal(projection(region, wild(images)))


@every
@settings(deadline=None, max_examples=25)
@given(
    bound=st.floats(0, 1.2), spread=st.sampled_from([0.02, 0.3, 3.0]), seed=st.integers(0, 10**6),
    relu=st.booleans(),
)  # fmt: skip
@example(bound=0.8109267832856988, spread=0.3, seed=65536, relu=True)  # a jump of d, 4 % of the bound high
def test_no_example_is_outside_by_another_computation(projection, bound, spread, seed, relu):
    network = tapped(channels=2, seed=seed % 7, activation=torch.nn.ReLU if relu else torch.nn.Tanh)
    images = random_images(3, 2, 5, 4, seed=seed)
    region = NeuralPerceptual(LPIPS(network), bound).around(batch_of(images))
    changed = region.perturb(projection(region, wild(images, spread, seed)))
    assert ((changed >= 0) & (changed <= 1)).all()
    assert (numpy_distance(network, images, changed) <= bound * (1 + 1e-4) + 1e-6).all()


@tight
@pytest.mark.parametrize("bound", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("spread", [0.3, 1.0, 20.0])
def test_next_to_nothing_of_the_bound_is_wasted(projection, bound, spread):
    network, images, region = setting(bound, count=20)
    delta = region.clip(wild(images, spread))
    outside = region.size(delta).numpy() > 1
    assert outside.sum() > 10
    share = numpy_distance(network, images, images + projection(region, delta)) / bound
    assert (share <= 1 + 1e-9).all()
    assert (share[outside] >= 0.99).all()


def test_the_published_newton_wastes_a_tenth_and_more():
    """d − bound + 0.1, times 1.1, where φ is linear: d = bound − 0.11 − 0.1·(d₀ − bound) after one move."""
    matrix = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)).Q
    images = torch.full((3, 3, 2, 2), 0.5, dtype=DOUBLE)
    region = NeuralPerceptual(Ellipsoid(tapped(dtype=DOUBLE), matrix), 0.5).around(batch_of(images))
    delta = wild(images)
    delta = delta / delta.flatten(1).norm(dim=1).reshape(3, 1, 1, 1) * 0.6
    assert delta.abs().max() < 0.5
    size = 0.5 * region.size(OvershootingNewton()(region, delta))
    assert size.allclose(torch.full((3,), 0.6 - 1.1 * 0.2, dtype=DOUBLE))


@pytest.mark.parametrize("seed", range(3))
def test_newton_ends_where_dense_algebra_says(seed):
    """One Newton move in an ellipsoid, ∇d = AᵀA δ/‖A δ‖, and then the segment's crossing of the surface."""
    matrix = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    images = torch.full((1, 1, 2, 3), 0.5, dtype=DOUBLE)
    region = NeuralPerceptual(Ellipsoid(tapped(channels=1, dtype=DOUBLE), matrix), 0.2).around(batch_of(images))
    delta = wild(images, 0.05, seed)
    delta = delta * 0.21 / (0.2 * region.size(delta))
    point = delta.flatten()
    steps = 0
    while (length := (matrix @ point).norm()) > 0.2:
        slope = matrix.T @ matrix @ point / length
        point = point - (length - 0.1998) * slope / slope.square().sum()
        steps += 1
    assert steps >= 1
    result = Newton()(region, delta).flatten()
    before = delta.flatten()
    if length >= 0.2 * 0.998:
        assert result.allclose(point, rtol=1e-6)
    assert 0.998 - 1e-9 <= (matrix @ result).norm() / 0.2 <= 1
    assert (result - before).norm() <= 1.5 * (1 - 1 / 1.05) * before.norm(), "it does not wander"


def test_newton_keeps_more_of_a_change_that_phi_does_not_see():
    """Along pixels that φ ignores nothing is given up; bisection gives up everything alike."""
    matrix = torch.diag(torch.tensor([1.0] * 6 + [0.0] * 6, dtype=DOUBLE))
    images = torch.full((2, 3, 2, 2), 0.5, dtype=DOUBLE)
    region = NeuralPerceptual(Ellipsoid(tapped(dtype=DOUBLE), matrix), 0.05).around(batch_of(images))
    delta = wild(images, 0.1).clamp(-0.4, 0.4)
    newton, bisected = (p(region, delta).flatten(1)[:, 6:] for p in (Newton(), Bisection()))
    assert newton.allclose(delta.flatten(1)[:, 6:])
    assert (bisected.norm(dim=1) < 0.5 * newton.norm(dim=1)).all()


@every
def test_no_example_is_moved_by_another_that_is_far_outside_or_fails(projection):
    _, images, region = setting(count=5)
    delta = wild(images, 0.01)
    delta[1], delta[3] = 1e3 * delta[1], 30 * delta[3]
    whole = projection(region, delta)
    for i in range(5):
        row = torch.tensor([i])
        assert projection(region.rows(row), delta[row]).allclose(whole[row], rtol=0, atol=1e-12)
    assert whole[[0, 2, 4]].allclose(delta[[0, 2, 4]], rtol=0, atol=1e-15)


class Cliff(torch.nn.Module):
    """φ jumps and is flat on both sides, so that no slope leads back; only halving does."""

    def features(self, images):
        high = (images > 0.7).to(images.dtype) + 0 * images
        return (torch.cat((high.mean(1, keepdim=True), 1 - high.mean(1, keepdim=True)), 1),)

    def tap(self, images):
        maps = self.features(images)
        return maps, maps[0].mean((2, 3))


@every
def test_where_no_slope_leads_back_the_way_is_straight_and_others_are_spared(projection):
    images = torch.full((2, 1, 2, 2), 0.5, dtype=DOUBLE)
    region = NeuralPerceptual(LPIPS(Cliff().eval()), 0.4).around(batch_of(images))
    delta = torch.stack((torch.full((1, 2, 2), 0.4), torch.full((1, 2, 2), 0.1))).to(DOUBLE)
    result = projection(region, delta)
    assert result[1].allclose(delta[1])
    assert (region.size(result) <= 1).all()
    assert (result[0] >= 0.2 * (1 - 2**-5)).all(), "up to the cliff at 0.7"
    assert (result[0] <= 0.2).all()


@every
@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one(projection, count):
    _, images, region = setting(count=count)
    assert projection(region, wild(images)).shape == images.shape


@every
def test_at_a_bound_of_0_the_image_comes_back(projection):
    _, images, region = setting(bound=0.0)
    assert projection(region, wild(images)).abs().max() == 0


def test_they_cost_a_few_passes():
    """Newton: 1F + 1B a move, and seldom a bisection; bisection: 2 to 6 forwards, not ten halvings."""
    network, images, region = setting(count=1)
    forwards = []
    network.stages[0].register_forward_hook(lambda *_: forwards.append(1))
    for projection, most in ((Bisection(), 6), (Newton(), 7)):
        forwards.clear()
        projection(region, wild(images))
        assert 2 <= len(forwards) <= most


def test_pixel_balls_have_their_own():
    images = random_images(2, 3, 4, 4)
    region = Linf(0.1).around(batch_of(images))
    assert OntoRegion()(region, torch.ones_like(images)).abs().max() <= 0.1 + 1e-6
    for projection in (Bisection(), Newton(), OvershootingNewton()):
        with pytest.raises(TypeError, match=r"LinfRegion is not a perceptual ball: use OntoRegion"):
            projection(region, torch.ones_like(images))


def test_what_they_promise():
    assert all(projection.promises for projection in ALL.values())
    assert not NoProjection().promises


@pytest.mark.parametrize("make", [lambda: Bisection(waste=0), lambda: Bisection(probes=0), lambda: Newton(waste=1)])
def test_numbers_without_a_meaning_are_refused(make):
    with pytest.raises(ValueError, match="expected a share between 0 and 1"):
        make()


@pytest.mark.parametrize(
    "changes", [{"overshoot": -0.1}, {"overshoot": float("nan")}, {"factor": 0.0}, {"factor": -1.1}, {"steps": 0}]
)
def test_numbers_of_the_published_newton_without_a_meaning_are_refused(changes):
    with pytest.raises(ValueError, match="expected an overshoot ≥ 0, a factor > 0 and at least 1 step"):
        OvershootingNewton(**changes)


@settings(deadline=None)
@given(st.lists(st.floats(1.01, 1e3), min_size=1, max_size=5), st.floats(0.2, 4.0))
def test_a_crossing_is_found_for_heights_that_bend(ends, power):
    """height(t) = end·t^power crosses 1 at end^(−1/power)."""
    high = torch.tensor(ends, dtype=DOUBLE)
    shares = crossing(lambda rows, t: high[rows] * t**power, torch.zeros_like(high), high, 1.0, 0.01, 40)
    reached = high * shares**power
    assert (reached <= 1).all()
    assert ((reached >= 0.99) | (shares == 0)).all()
    assert (reached[high ** (-1 / power) > 1e-2] >= 0.99).all()


@pytest.mark.parametrize("jumps", [(0.3,), (0.3, 0.2997), (0.9999, 0.5, 0.25), (1e-3,)])
def test_an_answer_keeps_away_from_every_jump(jumps):
    """A height that jumps over the level: a thousandth of the way below the jump, not next to it, and inside."""
    edges = torch.linspace(1 - 1e-3, 1, 500, dtype=DOUBLE)[:, None] * torch.tensor(jumps, dtype=DOUBLE)
    shares = crossing(
        lambda rows, t: 0.5 + (t[:, None] > edges[rows]).sum(1),
        torch.full((500,), 0.5, dtype=DOUBLE),
        torch.full((500,), 0.5 + len(jumps), dtype=DOUBLE),
        *(1.0, 0.01, 40),
    )
    lowest = edges.amin(1)
    assert (shares <= lowest * (1 - 2**-10.1)).all()
    assert (shares >= lowest * (1 - 2**-8)).all()


def test_a_crossing_evaluates_no_finished_example():
    asked = []

    def height(rows, shares):
        asked.append(rows.tolist())
        return torch.tensor([2.0, 5.0, 3.0])[rows] * shares**2

    low, high = torch.tensor([0.995, 0.0, 0.0]), torch.tensor([2.0, 5.0, 3.0])
    shares = crossing(height, low, high, 1.0, 0.01, 30)
    assert shares[0] == 0
    assert all(0 not in rows for rows in asked)
    assert [len(rows) for rows in asked] == sorted((len(rows) for rows in asked), reverse=True)

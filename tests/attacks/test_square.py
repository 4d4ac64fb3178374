"""Square: what it proposes is what the paper says, it needs no gradient, and it never gets worse."""

import pytest
import torch
from torch import nn

from gauntlet.attacks import Last, Square
from gauntlet.attacks.squares import FlatSquares, Pyramids, proposals
from gauntlet.distances import LPIPS
from gauntlet.losses import Margin
from gauntlet.noise import Noise
from gauntlet.threats import L1, L2, Linf, NeuralPerceptual
from tests.fixtures import Counting, LinearClassifier, batch_of, predictions, random_images, tapped

DOUBLE = torch.float64
THREATS = [Linf(0.1), L2(0.5), L1(2.0)]


@pytest.mark.parametrize("threat", THREATS)
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 9), (2, 1, 1), (3, 2, 7)])
def test_proposals_are_inside_and_of_any_shape(threat, shape):
    region = threat.around(batch_of(random_images(3, *shape, dtype=DOUBLE)))
    noise, tried = Noise(torch.arange(3)), proposals(threat)
    delta = tried.first(region, noise)
    for draw, share in enumerate((0.8, 0.4, 0.1, 0.01, 0.001)):
        delta = tried.next(region, delta, share, noise, 2 + draw)
        assert delta.shape == region.images.shape
        assert delta.isfinite().all()
        assert (region.size(delta) <= 1 + 1e-9).all()
        changed = region.perturb(delta)
        assert (changed >= 0).all()
        assert (changed <= 1).all()


def test_the_first_linf_proposal_is_stripes_at_the_end_of_the_ball():
    delta = FlatSquares().first(Linf(0.1).around(batch_of(torch.full((50, 3, 4, 6), 0.5))), Noise(torch.arange(50)))
    assert delta.abs().allclose(torch.tensor(0.1))
    assert (delta == delta[:, :, :1]).all()
    assert delta[:, :, 0].sign().mean().abs() < 0.15


@pytest.mark.parametrize(("share", "side"), [(0.8, 9), (0.25, 5), (0.04, 2), (0.001, 1)])
def test_linf_proposals_change_one_square_to_one_end_per_channel(share, side):
    """√(0.8 · 100) ≈ 9 and so on; anything may come back to where it was, so only changes inside are asked for."""
    region, noise = (
        Linf(0.1).around(batch_of(torch.full((200, 3, 10, 10), 0.5, dtype=DOUBLE))),
        Noise(torch.arange(200)),
    )
    changed = FlatSquares().next(region, torch.zeros(200, 3, 10, 10, dtype=DOUBLE), share, noise, 2)
    assert ((changed != 0).sum((2, 3)) == side**2).all()
    assert changed.abs().amax((2, 3)).allclose(torch.tensor(0.1, dtype=DOUBLE))
    assert (changed.amax((2, 3)) * changed.amin((2, 3)) <= 0).all()
    rows = (changed != 0).any(3).any(1)
    assert (rows.sum(1) == side).all()
    assert rows.float().argmax(1).unique().tolist() == list(range(10 - side + 1))  # every place is used


def test_a_pyramid_is_the_papers():
    """3×3: the middle has 1 + 1/4, the ring 1/4, all by the length."""
    pyramid = Pyramids(norm=2, steepness=2)._pyramid(3, 3)
    expected = torch.full((3, 3), 0.25, dtype=DOUBLE)
    expected[1, 1] = 1.25
    assert pyramid.allclose(expected / expected.norm())


@pytest.mark.parametrize(("norm", "steepness"), [(1, 4), (2, 2)])
@pytest.mark.parametrize("side", [2, 3, 7, 8])
def test_windows_hold_two_opposite_pyramids_of_the_same_length(norm, steepness, side):
    shape = Pyramids(norm, steepness)._shape(side, side)
    assert shape.norm(p=norm).item() == pytest.approx(1)
    upper, lower = shape[: side // 2], shape[side // 2 :]
    assert (upper > 0).all()
    assert (lower < 0).all()
    assert upper.norm(p=norm).item() == pytest.approx(lower.norm(p=norm).item())


@pytest.mark.parametrize("threat", [L2(0.5), L1(2.0)])
def test_proposals_use_the_whole_ball_and_change_two_windows(threat):
    """Far from the ends of [0, 1] no length is lost, whatever was there before."""
    region, noise = threat.around(batch_of(torch.full((40, 3, 12, 12), 0.5, dtype=DOUBLE))), Noise(torch.arange(40))
    tried = proposals(threat)
    delta = tried.first(region, noise)
    assert region.size(delta).allclose(torch.ones(40, dtype=DOUBLE))
    for draw in range(5):
        last, delta = delta, tried.next(region, delta, 0.05, noise, 2 + draw)
        assert region.size(delta).allclose(torch.ones(40, dtype=DOUBLE))
        if isinstance(threat, L2):  # under L1 the projection takes from all pixels
            changed = (delta - last).abs().amax(1) > 1e-12
            assert (changed.sum((1, 2)) <= 2 * 9).all()  # two windows of 3×3


@pytest.mark.parametrize("threat", THREATS)
def test_no_gradient_is_asked_for(threat):
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = LinearClassifier(48, bias=1.0, dtype=DOUBLE)

        def forward(self, images):
            assert not torch.is_grad_enabled()
            return (self.classifier(images) * 4).round() / 4  # a gradient of 0 nearly everywhere

    images, labels = random_images(4, 3, 4, 4, dtype=DOUBLE), torch.zeros(4, dtype=torch.long)
    classifier = Steps()
    labels = predictions_without_gradient(classifier, images)
    result = Square(threat_model=threat, queries=200)(classifier, images, labels, seeds=torch.arange(4)).images
    with torch.no_grad():
        assert (Margin()(classifier(result), labels) > Margin()(classifier(images), labels)).all()


def predictions_without_gradient(classifier, images):
    with torch.no_grad():
        return classifier(images).argmax(1)


@pytest.mark.parametrize("threat", THREATS)
def test_more_queries_never_lower_the_gain(threat):
    """With few queries the windows shrink sooner, so the trajectory is another one: the best is compared within one."""
    classifier, gains = tapped(dtype=DOUBLE), []
    with torch.no_grad():
        classifier.head[2].bias[0] = 3.0
    labels = torch.zeros(3, dtype=torch.long)
    attack = Square(threat_model=threat, queries=60, iterate=Last())
    classifier.register_forward_hook(lambda *call: gains.append(Margin()(call[2], labels)))
    result = attack(classifier, random_images(3, 3, 8, 8, dtype=DOUBLE), labels, seeds=torch.arange(3))
    assert len(gains) == 61
    with torch.no_grad():
        last = Margin()(classifier(result.images), labels)
    assert last.allclose(torch.stack(gains[:61]).amax(0), rtol=0, atol=1e-12)
    assert (last > gains[0]).any()


def test_comes_near_the_worst_case_of_a_linear_classifier():
    classifier = LinearClassifier(48, bias=100.0, dtype=DOUBLE)
    images, labels = torch.full((3, 3, 4, 4), 0.5, dtype=DOUBLE), torch.zeros(3, dtype=torch.long)
    result = Square(threat_model=Linf(0.1), queries=1500)(classifier, images, labels, seeds=torch.arange(3)).images
    rise = classifier.margin(result, labels) - classifier.margin(images, labels)
    assert (rise > 0.95 * 0.2 * classifier.weight.abs().sum()).all()


def test_an_example_that_has_fallen_costs_nothing():
    """One is misclassified at every start, one is never misclassified."""
    classifier = LinearClassifier(4, dtype=DOUBLE)
    classifier.weight.data, classifier.bias.data = torch.ones(4, dtype=DOUBLE), torch.tensor(-2.0, dtype=DOUBLE)
    images = torch.tensor([0.1, 0.9], dtype=DOUBLE).reshape(2, 1, 1, 1).expand(2, 1, 2, 2).contiguous()
    counting = Counting(classifier)
    result = Square(threat_model=Linf(0.1), queries=30)(counting, images, torch.zeros(2, dtype=torch.long))
    assert counting.batches == [2] + [1] * 31
    assert predictions(classifier, result.images).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"queries": -1}, "queries ≥ 0"),
        ({"share": 0.0}, "share"),
        ({"threat_model": NeuralPerceptual(LPIPS(tapped()), 0.5)}, "use PGD for it"),
    ],
)
def test_what_has_no_meaning_is_refused(changes, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Square(**{"threat_model": Linf(0.1)} | changes)

"""Fast-LPA does what the paper says, step by step, and costs what it says."""

import pytest
import torch
from torch import nn

from gauntlet.attacks import PGD, Best, FastLagrangianPerceptualAttack, Last, NoProjection, OntoRegion
from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.noise import Noise
from gauntlet.threats import L2, Linf, NeuralPerceptual
from tests.attacks.perceptual import phi, setting
from tests.fixtures import Counting, LinearClassifier, batch_of, numpy_distance, predictions, random_images

DOUBLE = torch.float64
PUBLISHED_MULTIPLIERS = [1, 1.2589, 1.5849, 1.9953, 2.5119, 3.1623, 3.9811, 5.0119, 6.3096, 7.9433]
PUBLISHED_STEPS = [1, 0.7943, 0.6310, 0.5012, 0.3981, 0.3162, 0.2512, 0.1995, 0.1585, 0.1259]


def lpa(threat_model, **changes):
    return FastLagrangianPerceptualAttack(**{"threat_model": threat_model, "iterate": Last()} | changes)


def paper(classifier, phi_network, images, labels, delta, bound, multipliers, lengths):
    """Laidlaw et al. 2021, appendix A, Fast-LPA, in plain tensors: δ after the last step."""
    clean, rows = phi(phi_network, images).detach(), torch.arange(len(images))
    for multiplier, length in zip(multipliers, lengths, strict=True):
        delta = delta.detach().requires_grad_()
        logits = classifier(images + delta)
        first, second = logits.topk(2, 1).indices.T
        other = torch.where(first == labels, second, first)
        rise = logits[rows, other] - logits[rows, labels]
        current = phi(phi_network, images + delta)
        excess = (current - clean).square().sum(1).sqrt() - bound
        (gradient,) = torch.autograd.grad((-rise + multiplier * excess.clamp(min=0)).sum(), delta)
        with torch.no_grad():
            down = gradient / (gradient.square().sum((1, 2, 3), keepdim=True).sqrt() + 1e-8)
            rate = (current - phi(phi_network, images + delta - 0.1 * down)).square().sum(1).sqrt() / 0.1
            step = (bound * length / (rate + 1e-4)).reshape(-1, 1, 1, 1)
            delta = (images + delta - step * down).clamp(0, 1) - images
    return delta.detach()


def schedules(steps):
    """λ and the step as a share of the bound."""
    return [10 * 0.1 ** (1 - i / steps) for i in range(steps)], [0.1 ** (i / steps) for i in range(steps)]


@pytest.mark.parametrize("bounded", ["self", "externally"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("bound", [0.05, 0.3])
def test_agrees_with_the_paper_in_plain_tensors(bounded, steps, dtype, tolerance, bound):
    classifier, phi_network, threat, images, labels, seeds = setting(bounded, dtype, bound)
    start = threat.around(batch_of(images), classifier).start(Noise(seeds))
    expected = paper(classifier, phi_network, images, labels, start, bound, *schedules(steps))
    result = lpa(threat, steps=steps, projection=NoProjection())(classifier, images, labels, seeds=seeds)
    assert (expected - start).abs().amax((1, 2, 3)).min() > 1e-3
    assert (result.params - expected).abs().max() <= tolerance
    assert (result.images - (images + expected)).abs().max() <= tolerance


def test_its_schedules_are_the_published_numbers():
    """λ from 1 to 7.9433 and steps from 1 to 0.1259 bounds for N = 10; other numbers end elsewhere."""
    classifier, phi_network, threat, images, labels, seeds = setting("self", DOUBLE, bound=0.1)
    start = threat.around(batch_of(images), classifier).start(Noise(seeds))
    result = lpa(threat, steps=10)(classifier, images, labels, seeds=seeds).params

    def distance_to(multipliers, lengths):
        return (result - paper(classifier, phi_network, images, labels, start, 0.1, multipliers, lengths)).norm().item()

    assert distance_to(PUBLISHED_MULTIPLIERS, PUBLISHED_STEPS) < 1e-3
    assert distance_to([10] * 10, PUBLISHED_STEPS) > 1e-2
    assert distance_to([m * 10**0.1 for m in PUBLISHED_MULTIPLIERS], PUBLISHED_STEPS) > 2e-3
    assert distance_to(PUBLISHED_MULTIPLIERS, [s * 10**-0.1 for s in PUBLISHED_STEPS]) > 1e-2


def test_its_defaults_are_the_papers():
    attack = FastLagrangianPerceptualAttack(threat_model=NeuralPerceptual(SelfLPIPS(), 0.5))
    assert (attack.steps, attack.multiplier, attack.probe, attack.projection) == (20, 10.0, 0.1, NoProjection())
    assert attack.goal.loss.kappa == float("inf")


@pytest.mark.parametrize("bounded", ["self", "externally"])
@pytest.mark.parametrize("iterate", [Last(), Best()])
@pytest.mark.parametrize("bound", [0.0, 0.02, 0.3, 2.0])
def test_onto_the_region_every_image_is_inside_by_another_computation(bounded, iterate, bound):
    classifier, phi_network, threat, images, labels, seeds = setting(bounded, torch.float32, bound, count=8)
    attack = lpa(threat, steps=8, projection=OntoRegion(), iterate=iterate)
    result = attack(classifier, images, labels, seeds=seeds)
    assert attack.stays_inside
    assert (numpy_distance(phi_network, images, result.images) <= bound * (1 + 1e-4) + 1e-6).all()
    assert ((result.images >= 0) & (result.images <= 1)).all()


def test_without_a_projection_it_promises_nothing_and_reports_how_far_it_went():
    classifier, phi_network, threat, images, labels, seeds = setting("self", torch.float32, bound=0.05, count=8)
    attack = lpa(threat, steps=2)
    result = attack(classifier, images, labels, seeds=seeds)
    assert not attack.stays_inside
    assert (result.size > 1).any()
    assert result.size.numpy() == pytest.approx(numpy_distance(phi_network, images, result.images) / 0.05, rel=1e-3)


def test_it_climbs():
    """The margin of the wrong class rises for every example that is not at once at its ball's end."""
    classifier, _, threat, images, labels, seeds = setting("self", DOUBLE, bound=0.3, count=20)
    result = lpa(threat, steps=10, projection=OntoRegion())(classifier, images, labels, seeds=seeds)
    with torch.no_grad():
        before, after = (classifier(batch).log_softmax(1)[range(20), labels] for batch in (images, result.images))
    assert (after < before).double().mean() > 0.9


def passes(network):
    """Forwards and backwards through the first stage, as they happen."""
    seen = {"forward": 0, "backward": 0}

    def count(_module, _inputs, output):
        seen["forward"] += 1
        if output.requires_grad:
            output.register_hook(lambda _gradient: seen.__setitem__("backward", seen["backward"] + 1))

    network.stages[0].register_forward_hook(count)
    return seen


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_self_bounded_it_costs_two_forwards_and_a_backward_a_step(steps):
    """N (2F + 1B), 1F for φ of the clean images and 1F to measure what comes back."""
    classifier, _, threat, images, labels, seeds = setting("self", torch.float32)
    seen = passes(classifier)
    lpa(threat, steps=steps)(classifier, images, labels, seeds=seeds)
    assert seen == {"forward": 2 * steps + 2, "backward": steps}


def test_a_fixed_distance_on_the_attacked_network_costs_the_same():
    classifier, _, _, images, labels, seeds = setting("self", torch.float32)
    threat = NeuralPerceptual(LPIPS(classifier), 0.3)
    seen = passes(classifier)
    lpa(threat, steps=3)(classifier, images, labels, seeds=seeds)
    assert seen == {"forward": 2 * 3 + 2, "backward": 3}


def test_externally_bounded_the_classifier_is_passed_once_a_step_and_phi_twice():
    classifier, phi_network, threat, images, labels, seeds = setting("externally", torch.float32)
    seen, seen_by_phi = passes(classifier), passes(phi_network)
    lpa(threat, steps=3)(classifier, images, labels, seeds=seeds)
    assert seen == {"forward": 3, "backward": 3}
    assert seen_by_phi == {"forward": 2 * 3 + 2, "backward": 3}


def test_best_lets_fallen_examples_go():
    classifier, phi_network, _, images, labels, seeds = setting("externally", torch.float32, count=30)
    with torch.no_grad():
        classifier.head[2].weight.mul_(3)
    labels = predictions(classifier, images)
    counting = Counting(classifier)
    attack = lpa(NeuralPerceptual(LPIPS(phi_network), 0.04), steps=10, iterate=Best(), projection=OntoRegion())
    result = attack(counting, images, labels, seeds=seeds)
    misclassified = predictions(classifier, result.images) != labels
    assert 0 < misclassified.sum() < 30
    assert counting.batches == sorted(counting.batches, reverse=True)
    assert counting.batches[-1] < 30
    assert (numpy_distance(phi_network, images, result.images) <= 0.04 * (1 + 1e-4)).all()


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)])
def test_other_threat_models_are_refused(threat):
    with pytest.raises(TypeError, match=f"{type(threat).__name__} is not one: use PGD for it"):
        FastLagrangianPerceptualAttack(threat_model=threat)


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"of {steps} steps: expected at least 1"):
        FastLagrangianPerceptualAttack(threat_model=NeuralPerceptual(SelfLPIPS(), 0.5), steps=steps)


@pytest.mark.parametrize(
    "changes", [{"probe": 0.0}, {"probe": -0.1}, {"multiplier": -1.0}, {"multiplier": float("nan")}]
)
def test_numbers_without_a_meaning_are_refused(changes):
    with pytest.raises(ValueError, match="expected a multiplier ≥ 0 and a pixel length above 0"):
        lpa(NeuralPerceptual(SelfLPIPS(), 0.5), **changes)


def test_self_bounded_it_refuses_a_classifier_without_taps():
    with pytest.raises(TypeError, match="choose a model with taps"):
        lpa(NeuralPerceptual(SelfLPIPS(), 0.5))(LinearClassifier(12), random_images(1, 3, 2, 2), torch.tensor([0]))


@pytest.mark.parametrize("bounded", ["self", "externally"])
@pytest.mark.parametrize("iterate", [Last(), Best()])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_classifier_and_constant_images_make_no_nan(bounded, iterate, value):
    classifier, _, threat, images, _, seeds = setting(bounded, torch.float32, bound=0.01)
    nn.init.zeros_(classifier.head[2].weight)
    images = torch.full_like(images, value)
    result = lpa(threat, steps=5, iterate=iterate)(classifier, images, predictions(classifier, images), seeds=seeds)
    assert result.images.isfinite().all()
    assert result.size.isfinite().all()


def test_a_classifier_that_is_dead_all_over_makes_no_nan():
    """No logit and no feature hears the image: every gradient is zero and φ never changes."""
    classifier, _, threat, images, labels, seeds = setting("self", torch.float32)
    nn.init.constant_(classifier.stages[0][0].bias, -1e3)
    nn.init.constant_(classifier.stages[1][1].bias, -1e3)
    result = lpa(threat, steps=3)(classifier, images, labels, seeds=seeds)
    start = threat.around(batch_of(images), classifier).start(Noise(seeds))
    assert result.images.allclose((images + start).clamp(0, 1), rtol=0, atol=1e-6)
    assert result.size.tolist() == [0] * 5


@pytest.mark.parametrize("iterate", [Last(), Best()])
def test_examples_that_are_wrong_at_the_start_stay_wrong(iterate):
    classifier, phi_network, threat, images, labels, seeds = setting("self", torch.float32)
    labels = (labels + 1) % 5
    result = lpa(threat, steps=4, iterate=iterate, projection=OntoRegion())(classifier, images, labels, seeds=seeds)
    assert (predictions(classifier, result.images) != labels).all()
    assert (numpy_distance(phi_network, images, result.images) <= 0.3 * (1 + 1e-4)).all()


@pytest.mark.parametrize("iterate", [Last(), Best()])
@pytest.mark.parametrize("count", [0, 1])
def test_a_batch_of_none_or_one_is_fine(iterate, count):
    classifier, _, threat, images, labels, seeds = setting("self", torch.float32)
    result = lpa(threat, steps=2, iterate=iterate)(classifier, images[:count], labels[:count], seeds=seeds[:count])
    assert result.images.shape == (count, 3, 7, 6)


def test_at_a_bound_of_0_nothing_moves():
    classifier, _, threat, images, labels, seeds = setting("self", torch.float32, bound=0.0)
    for attack in (lpa(threat, steps=3, projection=OntoRegion()), PGD(threat_model=threat, steps=3)):
        assert attack(classifier, images, labels, seeds=seeds).images.equal(images)

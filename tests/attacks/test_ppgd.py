"""PPGD and its first-order step beside dense linear algebra; what does not move, and what comes back."""

import pytest
import torch

from gauntlet.attacks import (
    Best,
    Bisection,
    CentralDifference,
    DoubleBackward,
    FirstOrderStep,
    Geometric,
    Last,
    Newton,
    NoProjection,
    OvershootingNewton,
    PerceptualPGD,
)
from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.goals import RandomTarget, Untargeted
from gauntlet.losses import Margin
from gauntlet.noise import Noise
from gauntlet.threats import L2, NeuralPerceptual
from tests.attacks.perceptual import ellipsoid, setting, sharp
from tests.fixtures import Circle, Counting, batch_of, numpy_distance, predictions, random_images, tapped

DOUBLE = torch.float64


def ppgd(threat_model, **changes):
    return PerceptualPGD(**{"threat_model": threat_model} | changes)


@pytest.mark.parametrize("jacobian", [CentralDifference(), DoubleBackward()])
@pytest.mark.parametrize("share", [0.05, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_step_is_the_best_of_its_length_where_phi_is_linear(jacobian, share, seed):
    """η (AᵀA)⁻¹ g / ‖A (AᵀA)⁻¹ g‖ with g = −2w, by dense linear algebra, and ‖A δ‖ = η."""
    classifier, threat, images, labels, _ = ellipsoid(seed)
    attack = FirstOrderStep(
        threat_model=threat, step_size=share, iterations=12, tolerance=0, jacobian=jacobian,
        projection=NoProjection(), iterate=Last(),
    )  # fmt: skip
    seeds = torch.arange(3)
    start = threat.around(batch_of(images)).start(Noise(seeds))
    moved = (attack(classifier, images, labels, seeds=seeds).params - start).flatten(1)
    matrix, weight = threat.distance.matrix, classifier.weight.detach()
    best = torch.linalg.solve(matrix.T @ matrix, -2 * weight)
    best = share * 0.05 * best / (matrix @ best).norm()
    assert moved.allclose(best.expand(3, -1), rtol=1e-6, atol=1e-9)
    assert (moved @ matrix.T).norm(dim=1).allclose(torch.full((3,), share * 0.05, dtype=DOUBLE), rtol=1e-6)


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_unsolved_systems_still_give_a_step_of_the_right_length(iterations):
    classifier, threat, images, labels, _ = ellipsoid(0)
    attack = FirstOrderStep(
        threat_model=threat, iterations=iterations, projection=NoProjection(), iterate=Last(), step_size=0.5
    )
    start = threat.around(batch_of(images)).start(Noise(torch.arange(3)))
    moved = (attack(classifier, images, labels, seeds=torch.arange(3)).params - start).flatten(1)
    assert (moved @ threat.distance.matrix.T).norm(dim=1).allclose(torch.full((3,), 0.025, dtype=DOUBLE), rtol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_reaches_the_best_point_of_an_ellipsoid(seed):
    """Bound · √(wᵀ (AᵀA)⁻¹ w), twice, as the margin is twice the score."""
    classifier, threat, images, labels, rise = ellipsoid(seed)
    attack = ppgd(threat, iterations=12, step_size=1.0, schedule=Geometric(), projection=Bisection())
    result = attack(classifier, images, labels, seeds=torch.arange(3)).images
    share = (classifier.margin(result, labels) - classifier.margin(images, labels)) / rise
    assert (share <= 1 + 1e-9).all()
    assert (share >= 0.99).all()


def test_the_step_is_the_dense_solution_on_a_tiny_network():
    """J by autograd, the system by LU; the step is of the asked length in φ to 1e-3."""
    classifier, phi_network, _, images, labels, seeds = setting("externally", DOUBLE, count=2)
    phi_network = tapped(dtype=DOUBLE, activation=torch.nn.Softplus, seed=3)
    images = images[:, :, :4, :4] * 0.5 + 0.25
    threat = NeuralPerceptual(LPIPS(phi_network), 1e-3)
    labels = predictions(classifier, images)
    attack = FirstOrderStep(
        threat_model=threat, goal=Untargeted(), iterations=200, tolerance=1e-10, projection=NoProjection(),
        iterate=Last(), jacobian=DoubleBackward(),
    )  # fmt: skip
    start = threat.around(batch_of(images)).start(Noise(seeds))
    moved = (attack(classifier, images, labels, seeds=seeds).params - start).flatten(1)
    for i in range(2):
        at = (images + start)[i : i + 1].requires_grad_()
        flat = torch.autograd.functional.jacobian(
            lambda x: torch.cat([layer.flatten() for layer in LPIPS(phi_network).embed(x)]), at
        ).reshape(-1, 48)
        (gradient,) = torch.autograd.grad(Margin()(classifier(at), labels[i : i + 1]).sum(), at)
        best = torch.linalg.lstsq(flat.T @ flat, gradient.flatten()).solution
        best = 1e-3 * best / (flat @ best).norm()
        assert (flat @ moved[i]).norm().item() == pytest.approx(1e-3, rel=1e-3)
        assert gradient.flatten() @ moved[i] >= 0.98 * (gradient.flatten() @ best)


def test_an_example_beyond_kappa_does_not_move_and_makes_no_nan():
    classifier, _, threat, images, labels, seeds = setting("externally", DOUBLE)
    with torch.no_grad():
        classifier.head[2].weight.zero_()
        classifier.head[2].bias[:] = torch.tensor([5.0, 0, 0, 0, 0])
    labels = torch.ones_like(labels)
    start = threat.around(batch_of(images)).start(Noise(seeds))
    result = FirstOrderStep(threat_model=threat, projection=NoProjection(), iterate=Last())(
        classifier, images, labels, seeds=seeds
    )
    assert result.images.allclose((images + start).clamp(0, 1), rtol=0, atol=1e-15)


def test_an_example_beyond_kappa_does_not_stop_its_neighbours():
    classifier, _, threat, images, labels, seeds = setting("externally", DOUBLE, count=6)
    labels = labels.clone()
    labels[2] = (labels[2] + 1) % 5
    with torch.no_grad():
        classifier.head[2].weight.mul_(30)
    labels[[0, 1, 3, 4, 5]] = predictions(classifier, images)[[0, 1, 3, 4, 5]]
    attack = ppgd(threat, steps=3, iterate=Last(), projection=NoProjection())
    whole = attack(classifier, images, labels, seeds=seeds)
    others = torch.tensor([0, 1, 3, 4, 5])
    without = attack(classifier, images[others], labels[others], seeds=seeds[others])
    assert whole.images[others].allclose(without.images, rtol=0, atol=1e-9)


@pytest.mark.parametrize("bounded", ["self", "externally"])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("iterate", [Best(), Last()])
def test_constants_and_dead_networks_make_no_nan(bounded, value, iterate):
    for dead in (False, True):
        classifier, phi_network, threat, images, _, seeds = setting(bounded, torch.float32, bound=0.05)
        if dead:
            for stage in (phi_network.stages[0][0], phi_network.stages[1][1]):
                torch.nn.init.constant_(stage.bias, -1e3)
        images = torch.full_like(images, value)
        labels = predictions(classifier, images)
        result = ppgd(threat, steps=3, iterate=iterate)(classifier, images, labels, seeds=seeds)
        assert result.images.isfinite().all()
        assert (result.size <= 1 + 1e-4).all()


def test_where_phi_is_constant_the_step_ends_at_the_box():
    classifier, phi_network, threat, images, labels, seeds = setting("externally", torch.float32, bound=0.05)
    for stage in (phi_network.stages[0][0], phi_network.stages[1][1]):
        torch.nn.init.constant_(stage.bias, -1e3)
    result = FirstOrderStep(threat_model=threat, iterate=Last())(classifier, images, labels, seeds=seeds)
    assert result.size.tolist() == [0] * 5
    assert ((result.images == 0) | (result.images == 1)).float().mean() > 0.8


@pytest.mark.parametrize("bounded", ["self", "externally"])
@pytest.mark.parametrize("projection", [Newton(), Bisection(), OvershootingNewton()])
@pytest.mark.parametrize("bound", [0.0, 0.02, 0.3, 2.0])
@pytest.mark.parametrize("iterate", [Best(), Last()])
def test_every_image_is_inside_by_another_computation(bounded, projection, bound, iterate):
    classifier, phi_network, threat, images, labels, seeds = setting(bounded, torch.float32, bound, count=8)
    attack = ppgd(threat, steps=4, projection=projection, iterate=iterate)
    result = attack(classifier, images, labels, seeds=seeds)
    assert attack.stays_inside
    assert (numpy_distance(phi_network, images, result.images) <= bound * (1 + 1e-4) + 1e-6).all()
    assert ((result.images >= 0) & (result.images <= 1)).all()


def test_exact_and_cheap_products_lead_to_the_same_place_on_a_smooth_phi():
    classifier, _, _, images, labels, seeds = setting("externally", DOUBLE)
    threat = NeuralPerceptual(LPIPS(tapped(seed=8, dtype=DOUBLE, activation=torch.nn.Softplus)), 0.1)
    cheap, exact = (
        ppgd(threat, steps=5, jacobian=jacobian, iterate=Last())(classifier, images, labels, seeds=seeds).params
        for jacobian in (CentralDifference(), DoubleBackward())
    )
    assert ((cheap - exact).flatten(1).norm(dim=1) < 1e-2 * exact.flatten(1).norm(dim=1)).all()


def test_on_a_circle_the_step_has_its_closed_form():
    """One pixel, φ = (cos kx, sin kx): J is k, so that η moves the pixel by η/k."""
    circle = Circle(2.0).double().eval()
    threat = NeuralPerceptual(LPIPS(circle), 0.1)
    images = torch.full((1, 1, 1, 1), 0.5, dtype=DOUBLE)
    attack = FirstOrderStep(threat_model=threat, step_size=0.5, projection=NoProjection(), iterate=Last())
    start = threat.around(batch_of(images)).start(Noise(torch.tensor([0])))
    result = attack(circle, images, predictions(circle, images), seeds=torch.tensor([0]))
    assert (result.params - start).abs().item() == pytest.approx(0.05 / 2, rel=1e-3)


def test_success_rises_with_the_bound_and_is_complete_without_one():
    misclassified = []
    for bound in (0.0, 0.02, 0.05, 0.1, 0.3, 4.0):
        classifier, _, threat, images, labels, seeds = sharp(bound, count=25)
        result = ppgd(threat, steps=8)(classifier, images, labels, seeds=seeds)
        misclassified.append((predictions(classifier, result.images) != labels).double().mean().item())
    assert misclassified == sorted(misclassified)
    assert misclassified[0] == 0
    assert 0 < misclassified[2] < 1
    assert misclassified[-1] == 1


def test_best_is_at_least_as_good_as_last_and_finished_examples_leave():
    classifier, phi_network, threat, images, labels, seeds = sharp(0.03)
    counting = Counting(classifier)
    best, last = (
        ppgd(threat, steps=15, iterate=iterate)(counting, images, labels, seeds=seeds) for iterate in (Best(), Last())
    )
    wrong = [predictions(classifier, result.images) != labels for result in (best, last)]
    assert (wrong[0] >= wrong[1]).all()
    assert 0 < wrong[0].sum() < len(images)
    walked = counting.batches[:-15]
    assert walked == sorted(walked, reverse=True)
    assert walked[-1] < len(images)
    assert (numpy_distance(phi_network, images, best.images) <= 0.03 * (1 + 1e-4)).all()


@pytest.mark.parametrize("loss", [Margin(1.0), Margin()])
def test_a_target_is_reached_inside_where_it_is_reached(loss):
    classifier, phi_network, threat, images, labels, seeds = sharp(0.4)
    attack = ppgd(threat, steps=20, goal=RandomTarget(loss))
    result = attack(classifier, images, labels, seeds=seeds)
    targets = attack.goal.bind(labels, Noise(seeds).stream(1)).targets(torch.zeros(len(labels), 5))
    assert (predictions(classifier, result.images) == targets).double().mean() > 0.5
    assert (numpy_distance(phi_network, images, result.images) <= 0.4 * (1 + 1e-4)).all()


def test_under_autocast_the_differences_are_taken_in_float32():
    classifier = tapped(classes=5)
    images = random_images(20, 3, 8, 8)
    labels = predictions(classifier, images)
    attack = ppgd(NeuralPerceptual(SelfLPIPS(), 0.2), steps=5, iterate=Last())
    plain = attack(classifier, images, labels, seeds=torch.arange(20))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = attack(classifier, images, labels, seeds=torch.arange(20))
    assert result.images.isfinite().all()
    assert torch.cosine_similarity(result.params.flatten(1), plain.params.flatten(1)).median() > 0.9


def test_what_cannot_be_is_refused():
    threat = NeuralPerceptual(SelfLPIPS(), 0.5)
    with pytest.raises(
        TypeError, match="PerceptualPGD searches a NeuralPerceptual ball, L2 is not one: use PGD for it"
    ):
        ppgd(L2(0.5))
    with pytest.raises(ValueError, match="at least 1, its start is not an attack"):
        ppgd(threat, steps=0)
    for changes in ({"step_size": 0.0}, {"iterations": 0}, {"tolerance": 1.0}, {"tolerance": -0.1}):
        with pytest.raises(ValueError, match="expected a step_size > 0, at least 1 iteration"):
            ppgd(threat, **changes)

"""LPA does what the paper says, step by step; its search over λ, and the optimum where there is a closed form."""

import pytest
import torch

from gauntlet.attacks import (
    Best,
    Bracketed,
    Constant,
    FirstSuccess,
    Geometric,
    LagrangianPerceptualAttack,
    Last,
    Newton,
    NoProjection,
    OvershootingNewton,
    Tenfold,
)
from gauntlet.distances import SelfLPIPS
from gauntlet.goals import RandomTarget
from gauntlet.losses import Margin
from gauntlet.noise import Noise
from gauntlet.threats import Linf, NeuralPerceptual
from tests.attacks.perceptual import ellipsoid, phi, setting, sharp
from tests.fixtures import Counting, batch_of, numpy_distance, predictions

DOUBLE = torch.float64


def lpa(threat_model, **changes):
    return LagrangianPerceptualAttack(**{"threat_model": threat_model} | changes)


def paper(classifier, phi_network, images, labels, delta, bound, searches, steps, stops, decays):
    """Laidlaw et al. 2021, LPA, in plain tensors, but examples stop at their first success: δ, λ, and which stopped."""
    delta, clean, live = delta.clone(), phi(phi_network, images).detach(), torch.ones(len(images), dtype=torch.bool)
    multiplier = torch.full((len(images),), 0.01, dtype=images.dtype)
    for _ in range(searches):
        last = torch.zeros(len(images), dtype=images.dtype)
        for i in range(steps):
            current = delta.requires_grad_()
            logits = classifier(images + current)
            rise = torch.cat(
                [logits[j, [k for k in range(logits.shape[1]) if k != labels[j]]].amax()[None] - logits[j, labels[j]]
                 for j in range(len(images))]
            )  # fmt: skip
            embedding = phi(phi_network, images + current)
            size = (embedding - clean).square().sum(1).sqrt()
            loss = -rise.clamp(max=1) + multiplier * (size - bound).clamp(min=0)
            (gradient,) = torch.autograd.grad(loss.sum(), current)
            with torch.no_grad():
                inside = (size <= bound) & ((images + delta >= 0) & (images + delta <= 1)).flatten(1).all(1)
                if stops:
                    live = live & ~((logits.argmax(1) != labels) & inside)
                last = torch.where(live, size, 0)
                down = gradient / (gradient.square().sum((1, 2, 3), keepdim=True).sqrt() + 1e-8)
                rate = (embedding - phi(phi_network, images + delta - 0.1 * down)).square().sum(1).sqrt() / 0.1
                length = bound * 0.1 ** (i / steps) if decays else 2 * bound / steps
                moved = (images + delta - down * (length / (rate + 1e-8)).reshape(-1, 1, 1, 1)).clamp(0, 1) - images
                delta = torch.where(live.reshape(-1, 1, 1, 1), moved, delta.detach())
        multiplier = torch.where(last >= bound, 10 * multiplier, multiplier)
    return delta.detach(), multiplier, ~live


@pytest.mark.parametrize("bounded", ["self", "externally"])
@pytest.mark.parametrize(("searches", "steps"), [(1, 1), (1, 7), (2, 3), (5, 6)])
@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("decays", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-9), (torch.float32, 2e-3)])
def test_agrees_with_the_paper_in_plain_tensors(bounded, searches, steps, stops, decays, dtype, tolerance):
    classifier, phi_network, threat, images, labels, seeds = setting(bounded, dtype, 0.15, count=8)
    start = threat.around(batch_of(images), classifier).start(Noise(seeds))
    expected, _, stopped = paper(classifier, phi_network, images, labels, start, 0.15, searches, steps, stops, decays)
    rule = {} if decays else {"step_size": 2 / steps, "schedule": Constant()}
    attack = lpa(
        threat,
        searches=searches,
        steps=steps,
        projection=NoProjection(),
        iterate=FirstSuccess() if stops else Last(),
        **rule,
    )
    result = attack(classifier, images, labels, seeds=seeds)
    assert (expected - start).abs().amax((1, 2, 3)).min() > 1e-3
    assert (result.params - expected).abs().max() <= tolerance
    if stops and searches == 5:
        assert stopped.any()
        assert (predictions(classifier, result.images) != labels)[stopped].all()
        assert (numpy_distance(phi_network, images, result.images)[stopped.numpy()] <= 0.15 * (1 + 1e-5)).all()


def test_its_defaults_are_the_papers_for_evaluation():
    attack = lpa(NeuralPerceptual(SelfLPIPS(), 0.5))
    assert (attack.searches, attack.steps, attack.probe) == (5, 40, 0.1)
    assert (attack.step_size, attack.schedule, attack.multipliers) == (1.0, Geometric(0.1), Tenfold(0.01, 10.0))
    assert attack.goal.loss == Margin(1.0)
    assert attack.stays_inside


def test_the_multiplier_of_a_climb_that_never_comes_inside_runs_from_a_hundredth_to_a_hundred():
    state = Tenfold().begin(torch.zeros(2, 3))
    seen = []
    for _ in range(5):
        seen.append(state[0].tolist())
        state = Tenfold().after(state, torch.tensor([True, False]))
    assert [row[0] for row in seen] == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert [row[1] for row in seen] == pytest.approx([0.01] * 5)


@pytest.mark.parametrize("needed", [1e-3, 0.02, 0.5, 7.0, 300.0])
def test_the_bracket_closes_on_the_least_multiplier_that_ends_inside(needed):
    multipliers = Bracketed()
    state = multipliers.begin(torch.zeros(1))
    for _ in range(20):
        state = multipliers.after(state, state[0] < needed)
        assert state[1] < needed
        assert state[2] >= needed
    assert state[0].item() == pytest.approx(needed, rel=1e-2)


@pytest.mark.parametrize("make", [Tenfold, Bracketed])
@pytest.mark.parametrize(("first", "growth"), [(0.0, 10.0), (-1.0, 10.0), (0.1, 1.0), (float("nan"), 10.0)])
def test_multipliers_without_a_meaning_are_refused(make, first, growth):
    with pytest.raises(ValueError, match="expected finite first > 0 and growth > 1"):
        make(first, growth)


@pytest.mark.parametrize("seed", range(3))
def test_reaches_the_best_point_of_an_ellipsoid(seed):
    """Bound · √(wᵀ (AᵀA)⁻¹ w), twice, as the margin is twice the score; a second search finds λ, so within 1 %."""
    classifier, threat, images, labels, rise = ellipsoid(seed)
    attack = lpa(threat, searches=9, steps=60, schedule=Geometric(1e-3), multipliers=Bracketed())
    result = attack(classifier, images, labels, seeds=torch.arange(3)).images
    share = (classifier.margin(result, labels) - classifier.margin(images, labels)) / rise
    assert (share <= 1 + 1e-9).all()
    assert (share >= 0.99).all()


def test_success_rises_with_the_bound_and_is_complete_without_one():
    misclassified = []
    for bound in (0.0, 0.02, 0.05, 0.1, 0.3, 4.0):
        classifier, _, threat, images, labels, seeds = sharp(bound, count=25)
        result = lpa(threat, searches=3, steps=10)(classifier, images, labels, seeds=seeds)
        misclassified.append((predictions(classifier, result.images) != labels).double().mean().item())
    assert misclassified == sorted(misclassified)
    assert misclassified[0] == 0
    assert 0 < misclassified[2] < 1
    assert misclassified[-1] == 1


def test_those_who_fell_stay_bit_for_bit_what_they_were_and_cost_nothing_more():
    classifier, phi_network, threat, images, labels, seeds = sharp(0.08)
    counting = Counting(classifier)
    result = lpa(threat, searches=2, steps=15)(counting, images, labels, seeds=seeds)
    misclassified = predictions(classifier, result.images) != labels
    assert 0 < misclassified.sum() < len(images)
    assert counting.batches == sorted(counting.batches, reverse=True)
    assert counting.batches[-1] < len(images)
    assert (numpy_distance(phi_network, images, result.images) <= 0.08 * (1 + 1e-5)).all()
    short = lpa(threat, searches=1, steps=15, projection=NoProjection())(classifier, images, labels, seeds=seeds)
    early = predictions(classifier, short.images) != labels
    assert early.any()
    assert result.images[early].equal(short.images[early])


@pytest.mark.parametrize("iterate", [Best(), FirstSuccess()])
def test_a_target_is_reached_inside_where_it_is_reached(iterate):
    classifier, phi_network, threat, images, labels, seeds = sharp(0.4)
    attack = lpa(threat, searches=3, steps=15, goal=RandomTarget(Margin(1.0)), iterate=iterate)
    result = attack(classifier, images, labels, seeds=seeds)
    targets = attack.goal.bind(labels, Noise(seeds).stream(1)).targets(torch.zeros(len(labels), 5))
    assert (predictions(classifier, result.images) == targets).double().mean() > 0.5
    assert (targets != labels).all()
    assert (numpy_distance(phi_network, images, result.images) <= 0.4 * (1 + 1e-4)).all()


@pytest.mark.parametrize("iterate", [Best(), Last(), FirstSuccess()])
@pytest.mark.parametrize("projection", [Newton(), OvershootingNewton()])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constants_and_a_reached_kappa_make_no_nan(iterate, projection, value):
    """All logits equal: no gradient but the penalty's; all wrong by more than κ: none at all."""
    for sure in (0.0, 1e3):
        classifier, _, threat, images, labels, seeds = setting("externally", torch.float32, bound=0.05)
        torch.nn.init.zeros_(classifier.head[2].weight)
        with torch.no_grad():
            classifier.head[2].bias[2] = sure
        images, labels = torch.full_like(images, value), torch.zeros_like(labels)
        attack = lpa(threat, searches=2, steps=3, iterate=iterate, projection=projection)
        result = attack(classifier, images, labels, seeds=seeds)
        assert result.images.isfinite().all()
        assert (result.size <= 1 + 1e-4).all()


@pytest.mark.parametrize("changes", [{"searches": 0}, {"steps": 0}, {"step_size": 0.0}])
def test_no_steps_are_refused(changes):
    with pytest.raises(ValueError, match="expected at least one search and one step, and a step_size > 0"):
        lpa(NeuralPerceptual(SelfLPIPS(), 0.5), **changes)
    with pytest.raises(ValueError, match="probe"):
        lpa(NeuralPerceptual(SelfLPIPS(), 0.5), probe=0.0)


def test_other_threat_models_are_refused():
    with pytest.raises(TypeError, match="Linf is not one: use PGD for it"):
        lpa(Linf(0.1))

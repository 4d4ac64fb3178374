"""What every attack promises, one table for all of them."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from gauntlet.acceleration import Folding
from gauntlet.attacks import (
    APGD,
    FAB,
    PGD,
    Best,
    Bisection,
    Bracketed,
    CentralDifference,
    FastLagrangianPerceptualAttack,
    FirstOrderStep,
    FirstSuccess,
    LagrangianPerceptualAttack,
    Last,
    OntoRegion,
    OvershootingNewton,
    PerceptualPGD,
    RandomChoice,
    SparseAPGD,
    Square,
    WorstCase,
)
from gauntlet.attacks.state import SearchState
from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.goals import RandomTarget, RankedTargets, TargetedGoal, Untargeted
from gauntlet.losses import DLR, CrossEntropy, Margin
from gauntlet.models import small_resnet
from gauntlet.noise import Noise
from gauntlet.testing import check_attack
from gauntlet.threats import L1, L2, AnyOf, Linf, NeuralPerceptual, StAdv
from tests.fixtures import LinearClassifier, batch_of, predictions, random_images, tapped

SELF, FIXED = (
    NeuralPerceptual(distance, 0.4) for distance in (SelfLPIPS(), LPIPS(tapped(seed=9, dtype=torch.float64)))
)


def lpa(threat_model, **changes):
    return FastLagrangianPerceptualAttack(threat_model=threat_model, steps=4, **changes)


def full_lpa(threat_model, **changes):
    return LagrangianPerceptualAttack(threat_model=threat_model, searches=2, steps=3, **changes)


def in_turn(threat_model, **attacks):
    return WorstCase(threat_model=threat_model, attacks=attacks)


def autoattack(threat_model):
    """A short one."""
    return in_turn(
        threat_model,
        apgd=APGD(threat_model=threat_model, steps=5),
        targeted=APGD(threat_model=threat_model, steps=4, goal=RankedTargets(targets=2)),
        fab=FAB(threat_model=threat_model, steps=3),
        square=Square(threat_model=threat_model, queries=10),
    )


ATTACKS = {
    "pgd linf": PGD(threat_model=Linf(8 / 255), steps=4),
    "pgd linf last": PGD(threat_model=Linf(8 / 255), steps=4, iterate=Last()),
    "pgd l2 targeted": PGD(threat_model=L2(0.5), steps=4, goal=RandomTarget()),
    "pgd l2 entropy": PGD(threat_model=L2(0.5), steps=4, goal=Untargeted(CrossEntropy())),
    "pgd self": PGD(threat_model=SELF, steps=4),
    "pgd fixed": PGD(threat_model=FIXED, steps=4),
    "lpa self as published": lpa(SELF, iterate=Last()),
    "lpa self onto, best": lpa(SELF, projection=OntoRegion()),
    "lpa self onto, last": lpa(SELF, projection=OntoRegion(), iterate=Last()),
    "lpa fixed, best": lpa(FIXED),
    "lpa fixed targeted": lpa(FIXED, projection=OntoRegion(), goal=RandomTarget()),
    "full lpa self": full_lpa(SELF, multipliers=Bracketed()),
    "full lpa fixed as published": full_lpa(FIXED, iterate=FirstSuccess(), projection=OvershootingNewton()),
    "full lpa fixed targeted": full_lpa(FIXED, goal=RandomTarget(Margin(1.0)), iterate=Last()),
    "ppgd self": PerceptualPGD(threat_model=SELF, steps=2, iterations=3),
    "ppgd fixed as published": PerceptualPGD(
        threat_model=FIXED, steps=2, step_size=0.5, iterations=3, projection=OvershootingNewton(), iterate=Last()
    ),
    "ppgd fixed targeted": PerceptualPGD(
        threat_model=FIXED, steps=2, iterations=3, goal=RandomTarget(Margin(1.0)), projection=Bisection()
    ),
    "first-order step": FirstOrderStep(threat_model=SELF, iterations=2, jacobian=CentralDifference()),
    "apgd linf": APGD(threat_model=Linf(8 / 255), steps=8),
    "apgd l2 dlr": APGD(threat_model=L2(0.5), steps=8, goal=Untargeted(DLR()), restarts=2),
    "apgd l2 last": APGD(threat_model=L2(0.5), steps=5, iterate=Last()),
    "apgd linf ranked targets": APGD(threat_model=Linf(8 / 255), steps=3, goal=RankedTargets(targets=9)),
    "apgd self": APGD(threat_model=SELF, steps=5),
    "sparse apgd": SparseAPGD(threat_model=L1(3.0), steps=10),
    "sparse apgd ranked targets": SparseAPGD(threat_model=L1(3.0), steps=10, goal=RankedTargets(targets=2)),
    "fab linf": FAB(threat_model=Linf(8 / 255), steps=3),
    "fab l2 restarts": FAB(threat_model=L2(0.5), steps=3, restarts=2),
    "fab l1": FAB(threat_model=L1(3.0), steps=3),
    "fab l2 last": FAB(threat_model=L2(0.5), steps=3, goal=Untargeted(Margin()), iterate=Last()),
    "square linf": Square(threat_model=Linf(8 / 255), queries=10),
    "square l2": Square(threat_model=L2(0.5), queries=10),
    "square l1 last": Square(threat_model=L1(3.0), queries=10, iterate=Last()),
    "autoattack linf": autoattack(Linf(8 / 255)),
    "autoattack l2": autoattack(L2(0.5)),
    "worst case fixed": in_turn(FIXED, pgd=PGD(threat_model=FIXED, steps=2), lpa=lpa(FIXED, projection=OntoRegion())),
    "random choice": RandomChoice(
        threat_model=L2(0.5),
        attacks={"pgd": PGD(threat_model=L2(0.5), steps=3), "square": Square(threat_model=L2(0.5), queries=5)},
    ),
    "worst case of three threat models": in_turn(
        AnyOf([Linf(8 / 255), SELF, StAdv(0.1, smoothness=0, spread=1)]),
        pgd=PGD(threat_model=Linf(8 / 255), steps=2),
        lpa=full_lpa(SELF),
        flow=in_turn(StAdv(0.1), pgd=PGD(threat_model=StAdv(0.1, smoothness=0, spread=1), steps=2)),
    ),
    "random choice of two threat models": RandomChoice(
        threat_model=AnyOf([L2(0.5), FIXED]),
        attacks={"pgd": PGD(threat_model=L2(0.5), steps=3), "ppgd": PerceptualPGD(threat_model=FIXED, steps=1)},
    ),
    "fab of 0": FAB(threat_model=L2(0.0), steps=2),
    "square of 0": Square(threat_model=L1(0.0), queries=2),
    "apgd of 0": APGD(threat_model=Linf(0.0), steps=2),
    "pgd of 0": PGD(threat_model=Linf(0.0), steps=2),
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


def network():
    """A network on which attacks succeed on some examples only."""
    classifier = tapped(classes=5, dtype=torch.float64)
    with torch.no_grad():
        classifier.head[2].weight.mul_(3)
    return classifier


def batch(count=6, shape=(3, 6, 5), seed=0):
    images = random_images(count, *shape, seed=seed, dtype=torch.float64).mul(1.3).sub(0.15).clamp(0, 1)
    return images, predictions(network(), images), torch.arange(count) + 100


@every_attack
def test_it_keeps_the_contract_of_attacks(attack):
    """On a classifier with taps, batch norms and dropout, of which it breaks some examples and not others."""
    check_attack(attack)


@every_attack
def test_without_seeds_the_global_generator_decides(attack):
    images, labels, _ = batch()
    results = []
    with torch.random.fork_rng():
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            results.append(attack(network(), images, labels).images)
    assert results[0].equal(results[1])
    if not isinstance(attack, FAB):  # which starts at x, and need not find better elsewhere
        assert results[0].equal(results[2]) == (attack.threat_model.bound == 0)


@every_attack
def test_images_that_want_a_gradient_give_results_without_one(attack):
    images, labels, seeds = batch(2)
    images.requires_grad_()
    adversarial = attack(network(), images, labels, seeds=seeds)
    assert not adversarial.images.requires_grad
    assert images.grad is None


@every_attack
def test_channels_last_and_strided_images_give_the_same_result(attack):
    images, labels, seeds = batch()
    expected = attack(network(), images, labels, seeds=seeds).images
    for other in (images.contiguous(memory_format=torch.channels_last), torch.stack((images, images), -1)[..., 0]):
        assert attack(network(), other, labels, seeds=seeds).images.allclose(expected, rtol=0, atol=1e-9)


def intricate():
    """Submodules in different modes, a frozen parameter, a stored gradient, buffers that train-mode forwards change."""
    classifier = small_resnet(5, [0.5] * 3, [0.25] * 3, width=4).double().train()
    classifier.network.layer2.eval()
    classifier.network.fc.bias.requires_grad_(False)
    classifier.network.fc.weight.grad = torch.ones_like(classifier.network.fc.weight)
    return classifier


class Failing(nn.Module):
    """A head that raises at the third forward."""

    def __init__(self, head):
        super().__init__()
        self.head, self.forwards = head, 0

    def forward(self, maps):
        self.forwards += 1
        if self.forwards == 3:
            raise ArithmeticError("the third forward")
        return self.head(maps)


def test_an_attack_that_fails_midway_says_so_and_restores():
    classifier = intricate()
    classifier.network.fc = Failing(classifier.network.fc)
    images, labels, seeds = batch()
    with pytest.raises(ArithmeticError, match="the third forward"):
        PGD(threat_model=Linf(0.01), steps=5, iterate=Last())(classifier, images, labels, seeds=seeds)
    assert classifier.training
    assert classifier.network.layer1.training
    assert not classifier.network.layer2.training


BAD_IMAGES = {
    "above 1": torch.full((2, 3, 4, 4), 1.001),
    "below 0": torch.full((2, 3, 4, 4), -1e-6),
    "8-bit numbers": torch.full((2, 3, 4, 4), 200.0),
    "one NaN": torch.zeros(2, 3, 4, 4).index_put((torch.tensor(1), torch.tensor(0)), torch.tensor(float("nan"))),
    "infinite": torch.full((2, 3, 4, 4), float("inf")),
    "integers": torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
    "one image without a batch": torch.zeros(3, 4, 4),
}


@every_attack
@pytest.mark.parametrize("images", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_images_that_are_none_raise(attack, images):
    with pytest.raises(ValueError, match=r"expected .*\[0, 1\]"):
        attack(network(), images, torch.zeros(len(images), dtype=torch.long))


@every_attack
@pytest.mark.parametrize(
    "labels",
    [torch.zeros(3, dtype=torch.long), torch.zeros(2), torch.zeros(2, 1, dtype=torch.long), torch.tensor(0)],
)
def test_labels_that_are_not_one_integer_an_image_raise(attack, labels):
    with pytest.raises(ValueError, match="expected 2 integers, one per image"):
        attack(network(), torch.zeros(2, 3, 4, 4, dtype=torch.float64), labels)


@pytest.mark.parametrize("label", [-1, 5])
@pytest.mark.parametrize("name", ["pgd linf", "lpa self as published", "pgd l2 entropy"])
def test_labels_of_no_class_raise(name, label):
    with pytest.raises((IndexError, RuntimeError, ValueError), match=r"(?i)out of (bounds|range)|target|classes"):
        ATTACKS[name](network(), torch.zeros(2, 3, 4, 4, dtype=torch.float64), torch.tensor([0, label]))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
@every_attack
def test_labels_of_any_integer_type_will_do(attack, dtype):
    images, labels, seeds = batch(3)
    expected = attack(network(), images, labels, seeds=seeds).images
    assert attack(network(), images, labels.to(dtype), seeds=seeds).images.equal(expected)


@pytest.mark.parametrize("name", ["pgd linf", "pgd l2 targeted", "lpa fixed, best"])
def test_a_wrong_number_of_seeds_raises(name):
    images, labels, _ = batch(3)
    with pytest.raises(ValueError, match="one row per example"):
        ATTACKS[name](network(), images, labels, seeds=torch.arange(2))


@every_attack
def test_inference_mode_is_refused(attack):
    images, labels, _ = batch(2)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode is on"):
        attack(network(), images, labels)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "clean"])
def test_a_classifier_that_answers_nan_raises(name):
    """Its examples would otherwise be recorded as robust: nothing in NaN is ever better."""
    classifier = network()
    with torch.no_grad():
        classifier.head[2].bias[0] = torch.nan
    images, labels, seeds = batch(2)
    with pytest.raises((RuntimeError, ValueError), match=r"(?i)nan|finite"):
        ATTACKS[name](classifier, images, torch.zeros_like(labels), seeds=seeds)


@pytest.mark.parametrize("bias", [300.0, -300.0])
def test_under_autocast_a_success_is_one_in_float32(bias):
    """In bfloat16 these logits round to a tie, which argmax gives to class 0; in float32 some are right, some wrong."""
    classifier = LinearClassifier(12, bias=0.0, seed=0)
    offset = torch.full((1, 2), bias)
    whole = nn.Sequential(classifier, Shift(offset))
    images = random_images(200, 3, 2, 2)
    labels = torch.ones(200, dtype=torch.long)
    attack = PGD(threat_model=Linf(0.02), steps=3, step_size=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adversarial = attack(whole, images, labels, seeds=torch.arange(200))
        rounded = predictions(whole, adversarial.images) != labels
    truly = predictions(whole, adversarial.images) != labels
    exactly = attack(whole, images, labels, seeds=torch.arange(200))
    assert (rounded & ~truly).any(), "the test needs an example that only bfloat16 gets wrong"
    assert truly.equal(predictions(whole, exactly.images) != labels)


class Shift(nn.Module):
    """Logits in the precision of the moment, a constant added to all of them."""

    def __init__(self, offset):
        super().__init__()
        self.register_buffer("offset", offset)

    def forward(self, logits):
        return (logits + self.offset).to(
            torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else logits.dtype
        )


@pytest.mark.parametrize("attack", [PGD(threat_model=SELF, steps=6), lpa(SELF, projection=OntoRegion())])
def test_under_autocast_what_comes_back_is_inside_in_float32(attack):
    """The grid measures in float32, so an attack that measured in bfloat16 must not have left its ball."""
    classifier = tapped(classes=5)
    images = random_images(40, 3, 8, 8)
    labels = predictions(classifier, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adversarial = attack(classifier, images, labels, seeds=torch.arange(40))
    size = attack.threat_model.around(batch_of(images), classifier).size(adversarial.images - images)
    assert (size <= 1 + 1e-4).all()
    assert adversarial.size.allclose(size, rtol=1e-4)


@dataclass(frozen=True)
class Eavesdropping:
    """Untargeted, and keeps the first number it could have drawn for every example."""

    recorded: list

    def bind(self, labels, noise):
        self.recorded.append(noise.uniform((len(labels),)))
        return Untargeted().bind(labels, noise)


def test_the_random_start_and_the_random_target_are_drawn_apart():
    """Were they drawn from one stream, the first pixel would tell the target."""
    images, labels, recorded = torch.full((500, 1, 2, 2), 0.5), torch.zeros(500, dtype=torch.long), []
    attack = PGD(threat_model=Linf(0.5), steps=0, iterate=Last(), goal=Eavesdropping(recorded))
    adversarial = attack(LinearClassifier(4), images, labels, seeds=torch.arange(500))
    assert recorded[0].shape == (500,)
    for pixel in adversarial.images.flatten(1).T:
        assert abs(torch.corrcoef(torch.stack((pixel, recorded[0])))[0, 1]) < 0.2


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "clean"])
def test_no_gradient_of_a_parameter_is_computed(name):
    classifier, wishes = network(), []
    classifier.register_forward_hook(lambda *_: wishes.extend(p.requires_grad for p in classifier.parameters()))
    classifier.stages[0].register_forward_hook(
        lambda *_: wishes.extend(p.requires_grad for p in classifier.parameters())
    )
    images, labels, seeds = batch(3)
    ATTACKS[name](classifier, images, labels, seeds=seeds)
    assert wishes
    assert not any(wishes)


def test_a_reached_goal_is_kept_though_an_earlier_point_gained_more():
    """A target may have a higher probability where it loses than where it wins."""

    class Table(nn.Module):
        def forward(self, images):
            losing, winning = torch.tensor([[0.5, 0.4, 0.1]]).log(), torch.tensor([[0.33, 0.35, 0.32]]).log()
            return torch.where(images.flatten(1) < 0.55, losing, winning)

    region = Linf(0.2).around(batch_of(torch.full((1, 1, 1, 1), 0.5)))
    goal = TargetedGoal(torch.tensor([0]), CrossEntropy(), torch.tensor([0.0]))
    state = SearchState(Table(), region, goal, Noise(torch.tensor([0])), Best(), Folding(()))
    state.begin(0)
    state.params = region.zero()
    state.evaluate()
    state.drop_finished()
    assert len(state) == 1
    state.params = torch.full((1, 1, 1, 1), 0.1)
    state.evaluate()
    state.drop_finished()
    assert len(state) == 0
    assert state.result().equal(torch.full((1, 1, 1, 1), 0.1))

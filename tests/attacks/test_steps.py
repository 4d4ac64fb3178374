"""Step rules and schedules against what they are defined to be; restarts; labels and NaN named by example."""

import math

import pytest
import torch
from torch import nn

from gauntlet.acceleration import Folding
from gauntlet.attacks import PGD, Adam, Best, Geometric, Last, Normalised, Sign, Steepest, Tenfold
from gauntlet.attacks.state import SearchState
from gauntlet.distances import LPIPS
from gauntlet.errors import NotFiniteError
from gauntlet.goals import RankedTargets, Untargeted
from gauntlet.losses import CrossEntropy, LogitDifference, Margin
from gauntlet.noise import Noise
from gauntlet.threats import (
    L1,
    L2,
    AdversarialJPEG,
    AnyOf,
    ChangedPixels,
    Composition,
    Linf,
    NeuralPerceptual,
    ReColorAdv,
    StAdv,
)
from tests.fixtures import Counting, LinearClassifier, batch_of, predictions, random_images, tapped

DOUBLE = torch.float64


def state(threat, count=4):
    images = random_images(count, 3, 5, 4, dtype=DOUBLE)
    classifier = tapped(dtype=DOUBLE)
    goal = Untargeted().bind(torch.zeros(count, dtype=torch.long), Noise(torch.arange(count)))
    made = SearchState(
        classifier, threat.around(batch_of(images)), goal, Noise(torch.arange(count)), Best(), Folding(())
    )
    made.begin(0)
    return made


def test_steps_are_as_long_as_they_say():
    search, gradient = state(L2(0.5)), random_images(4, 3, 5, 4, seed=3, dtype=DOUBLE) - 0.5
    moved = {type(rule): rule(search, gradient, 0.1, 0) - search.params for rule in (Steepest(), Sign(), Normalised())}
    assert moved[Sign].allclose(0.05 * gradient.sign())
    assert moved[Normalised].allclose(moved[Steepest])
    assert moved[Normalised].flatten(1).norm(dim=1).allclose(torch.full((4,), 0.05, dtype=DOUBLE))


def test_adam_is_torch_s_adam():
    search = state(Linf(0.1))
    free = nn.Parameter(search.params.clone())
    optimizer = torch.optim.Adam([free], lr=0.2 * 0.1, maximize=True)
    for i in range(5):
        gradient = random_images(4, 3, 5, 4, seed=i, dtype=DOUBLE) - 0.5
        free.grad = gradient.clone()
        optimizer.step()
        search.params = Adam()(search, gradient, 0.2, i)
        assert search.params.allclose(free, rtol=0, atol=1e-12)


def test_a_geometric_schedule_is_the_paper_s():
    """s/bound of Fast-LPA with N = 10: 1, 0.7943, 0.6310, …, 0.1259."""
    shares = [Geometric()(i, 10) for i in range(10)]
    assert shares[:3] + shares[-1:] == pytest.approx([1, 0.79433, 0.63096, 0.12589], abs=1e-5)
    with pytest.raises(ValueError, match="finite factor above 0"):
        Geometric(0.0)


@pytest.mark.parametrize("step", [Sign(), Normalised(), Adam(), Steepest()], ids=lambda step: type(step).__name__)
def test_every_step_rule_finds_the_worst_case_of_a_linear_classifier(step):
    classifier = LinearClassifier(60, bias=1e3, dtype=DOUBLE)
    images = torch.full((3, 3, 5, 4), 0.5, dtype=DOUBLE)
    labels = torch.zeros(3, dtype=torch.long)
    attack = PGD(threat_model=Linf(0.1), steps=100, step=step, step_size=3.0, schedule=Geometric())
    rise = classifier.margin(attack(classifier, images, labels).images, labels) - classifier.margin(images, labels)
    assert rise.allclose(0.2 * classifier.weight.norm(p=1).detach().expand(3), rtol=0.01)


def test_momentum_travels_with_its_example_when_others_leave():
    """Adam's result for an example does not depend on examples dropped before it."""
    classifier = tapped(classes=5, dtype=DOUBLE)
    images = random_images(8, 3, 6, 5, dtype=DOUBLE)
    labels, seeds = predictions(classifier, images), torch.arange(8)
    attack = PGD(threat_model=Linf(0.02), steps=8, step=Adam(), step_size=0.1)
    whole = attack(classifier, images, labels, seeds=seeds).images
    misclassified = predictions(classifier, whole) != labels
    assert misclassified.any()
    assert not misclassified.all()
    for i in range(8):
        alone = attack(classifier, images[i : i + 1], labels[i : i + 1], seeds=seeds[i : i + 1]).images
        assert alone.allclose(whole[i : i + 1], rtol=0, atol=1e-12)


def test_restarts_begin_elsewhere_and_leave_the_fallen_alone():
    classifier = tapped(classes=5, dtype=DOUBLE)
    images = random_images(40, 3, 6, 5, dtype=DOUBLE)
    labels, seeds = predictions(classifier, images), torch.arange(40)
    still_correct, batches = [], []
    for restarts in (1, 2, 5):
        counting = Counting(classifier)
        attack = PGD(threat_model=Linf(0.02), steps=2, step_size=0.5, restarts=restarts)
        result = attack(counting, images, labels, seeds=seeds).images
        still_correct.append(predictions(classifier, result) == labels)
        batches.append(counting.batches)
    assert still_correct[0].sum() > still_correct[2].sum() > 0
    assert not (still_correct[1] & ~still_correct[0]).any()
    assert batches[1][: len(batches[0])] == batches[0]
    assert batches[1][len(batches[0])] == still_correct[0].sum()


def test_no_steps_and_restarts_are_random_noise():
    classifier = tapped(dtype=DOUBLE)
    images = random_images(3, 3, 6, 5, dtype=DOUBLE)
    labels, seeds = predictions(classifier, images), torch.arange(3)
    attack = PGD(threat_model=Linf(0.3), steps=0, restarts=4)
    counting = Counting(classifier)
    result = attack(counting, images, labels, seeds=seeds)
    assert sum(counting.batches) <= 12
    assert (result.size > 0.5).all()


def test_restarts_need_a_memory():
    with pytest.raises(ValueError, match="2 restarts of an attack that returns last"):
        PGD(threat_model=Linf(0.1), iterate=Last(), restarts=2)
    with pytest.raises(ValueError, match="0 restarts"):
        PGD(threat_model=Linf(0.1), restarts=0)


@pytest.mark.parametrize("loss", [None, CrossEntropy()])
@pytest.mark.parametrize("label", [4, -1])
def test_a_label_that_is_no_class_is_named_with_its_example(label, loss):
    attack = PGD(threat_model=Linf(0.1), goal=Untargeted(loss) if loss else Untargeted())
    with pytest.raises(ValueError, match=rf"label {label} of example 1 of the batch.*0 to 3"):
        attack(tapped(), random_images(3, 3, 6, 5), torch.tensor([0, label, 1]))


def test_a_classifier_of_one_class_is_refused():
    with pytest.raises(ValueError, match="has 1 class"):
        PGD(threat_model=Linf(0.1))(tapped(classes=1), random_images(2, 3, 6, 5), torch.tensor([0, 0]))


def test_nan_is_named_with_its_example_and_never_scrubbed():
    class Broken(nn.Module):
        def forward(self, images):
            brightest = images.flatten(1)[:, :2]
            return torch.where(images[:, :1, 0, 0] > 0.95, math.nan, brightest)

    images = random_images(4, 3, 6, 5) * 0.5
    images[2, 0, 0, 0] = 1.0
    with pytest.raises(NotFiniteError, match="NaN for example 2 of the batch"):
        PGD(threat_model=Linf(0.01), steps=3)(Broken(), images, torch.tensor([0, 1, 0, 1]))


def test_images_outside_the_box_are_named():
    images = random_images(4, 3, 6, 5)
    images[3, 0, 0, 0] = 1.2
    with pytest.raises(ValueError, match=r"run from .* to 1\.2, example 3 of the batch"):
        PGD(threat_model=Linf(0.1))(tapped(), images, torch.tensor([0, 1, 0, 1]))


GEOMETRIES = {
    "linf": Linf(0.03),
    "l2": L2(0.5),
    "l1": L1(4.0),
    "pixels": ChangedPixels(0.1),
    "jpeg": AdversarialJPEG(0.5),
    "flow": StAdv(0.3, smoothness=0),
    "colour": ReColorAdv(0.1, smoothness=0, resolution=(4, 4, 4)),
    "colour, flow, additive": Composition(
        [ReColorAdv(0.05, resolution=(4, 4, 4), smoothness=0), StAdv(0.1, smoothness=0), Linf(0.02)]
    ),
    "l2 or flow": AnyOf([L2(0.5), StAdv(0.3, smoothness=0)]),
    "perceptual": NeuralPerceptual(LPIPS(tapped(seed=9, dtype=DOUBLE)), 0.4),
}


@pytest.mark.parametrize("step", [Sign(), Normalised(), Adam(), Steepest()], ids=lambda step: type(step).__name__)
@pytest.mark.parametrize("threat", GEOMETRIES.values(), ids=GEOMETRIES)
def test_every_step_rule_climbs_in_every_geometry(threat, step):
    """Each beats random noise of the same threat model, and stays inside."""
    classifier = tapped(classes=5, dtype=DOUBLE)
    images = random_images(6, 3, 8, 6, dtype=DOUBLE)
    labels, seeds = predictions(classifier, images), torch.arange(6)
    keep = {"threat_model": threat, "iterate": Last()}
    length = 2.0 if isinstance(step, Normalised) else 0.2
    result = PGD(steps=12, step=step, step_size=length, **keep)(classifier, images, labels, seeds=seeds)
    noise = PGD(steps=0, **keep)(classifier, images, labels, seeds=seeds)
    with torch.no_grad():
        ascent_logits, random = (Margin()(classifier(some.images), labels) for some in (result, noise))
    assert (ascent_logits > random).all()
    assert (result.size <= 1 + 1e-6).all()


@pytest.mark.parametrize("bound", [1e-6, 0.01 / 255, 0.25 / 255, 1 / 255, 8 / 255])
def test_a_composition_of_one_is_as_strong_as_the_one_at_small_bounds_too(bound):
    """In float32 x + δ rounds to a little more than the bound: such points are inside, or small bounds look robust."""
    classifier = LinearClassifier(36)
    images = random_images(64, 3, 3, 4)
    labels, seeds = predictions(classifier, images), torch.arange(64)
    with torch.no_grad():
        lead = Margin()(classifier(images), labels)
    one, composed, either = (
        PGD(threat_model=threat, steps=10)(classifier, images, labels, seeds=seeds).images
        for threat in (Linf(bound), Composition([Linf(bound)]), AnyOf([Linf(bound)]))
    )
    with torch.no_grad():
        assert (Margin()(classifier(one), labels) > lead).all()
    assert composed.equal(one)
    assert either.equal(one)
    assert (one.double() - images.double()).abs().max() <= bound * (1 + 1e-7)


@pytest.mark.parametrize("numbers", [{"beta1": 1.0}, {"beta1": -0.1}, {"beta2": 1.0}, {"epsilon": 0.0}])
def test_adam_s_numbers_without_a_meaning_are_refused(numbers):
    with pytest.raises(ValueError, match=r"expected decays in \[0, 1\) and an epsilon > 0"):
        Adam(**numbers)


def test_several_targets_need_a_memory():
    attack = PGD(threat_model=Linf(0.1), goal=RankedTargets(targets=2), iterate=Last(), steps=1)
    with pytest.raises(ValueError, match="2 targets and last iterates"):
        attack(tapped(), random_images(2, 3, 6, 5), torch.tensor([0, 1]))


@pytest.mark.parametrize(("goal", "loss"), [(Untargeted, LogitDifference()), (RankedTargets, CrossEntropy())])
def test_losses_and_goals_that_do_not_fit_are_refused_at_once(goal, loss):
    with pytest.raises(TypeError, match=type(loss).__name__):
        goal(loss)


@pytest.mark.parametrize(
    "built",
    [
        lambda: PGD(threat_model=Linf(0.1), step_size=math.inf),
        lambda: Geometric(math.inf),
        lambda: Tenfold(math.inf),
        lambda: Tenfold(growth=math.inf),
        lambda: L1(math.inf),
        lambda: L2(math.inf),
    ],
)
def test_lengths_and_factors_without_end_are_refused(built):
    with pytest.raises(ValueError, match="inf"):
        built()

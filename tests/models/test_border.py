"""Whatever form a network answers in and does to its input: the same logits, and the images as they were."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from torch import nn

from gauntlet.attacks import (
    APGD,
    FAB,
    PGD,
    FastLagrangianPerceptualAttack,
    LagrangianPerceptualAttack,
    Last,
    PerceptualPGD,
    SparseAPGD,
    Square,
    WorstCase,
)
from gauntlet.data import Batch
from gauntlet.defenses import NormalTraining
from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite, evaluate, probe
from gauntlet.goals import RankedTargets, Untargeted
from gauntlet.losses import DLR, Margin
from gauntlet.models import classifier as normalised
from gauntlet.models import features_of, logits_of, tap_of
from gauntlet.testing import check_attack
from gauntlet.threats import L1, L2, Linf, NeuralPerceptual, StAdv
from tests.evaluation.tiny import examples
from tests.fixtures import random_images, tapped

Outputs = namedtuple("Outputs", ["aux", "logits"])


class Answering(nn.Module):
    """A network whose forward makes something else of the logits."""

    def __init__(self, make, body=None):
        super().__init__()
        self.body, self.make = tapped(classes=5) if body is None else body, make

    def forward(self, images):
        return self.make(self.body(images))


FORMS = {
    "tuple": lambda logits: (logits, logits.flip(1)),
    "list": lambda logits: [logits, None],
    "named tuple": lambda logits: Outputs(logits.flip(1), logits),
    "mapping": lambda logits: {"loss": None, "logits": logits},
    "model output": lambda logits: OrderedDict(logits=logits),
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_the_main_logits_are_taken_out_of_what_a_network_answers(make):
    images, labels = random_images(5, 3, 8, 8), torch.arange(5)
    network = Answering(make)
    assert logits_of(network, images).equal(network.body(images))
    attack, seeds = APGD(threat_model=Linf(0.05), steps=5), torch.arange(5)
    assert attack(network, images, labels, seeds=seeds).images.equal(
        attack(network.body, images, labels, seeds=seeds).images
    )


WRONG = {
    "integers": (lambda logits: logits.argmax(1, keepdim=True), r"torch.int64 \[5, 1\] for 5 images"),
    "classes": (lambda logits: logits.argmax(1), r"torch.int64 \[5\] for 5 images"),
    "one score an image": (lambda logits: logits[:, 0], r"torch.float32 \[5\] for 5 images"),
    "maps": (lambda logits: logits[:, :, None, None], r"torch.float32 \[5, 5, 1, 1\] for 5 images"),
    "another count": (lambda logits: logits[:2], r"torch.float32 \[2, 5\] for 5 images"),
    "nothing": (lambda logits: None, "answered nothing"),
    "text": (lambda logits: "cat", "answered a str"),
    "an empty tuple": (lambda logits: (), "answered a tuple"),
    "a tuple of something else": (lambda logits: ("cat", logits), "a tuple that begins with str"),
    "a mapping without logits": (lambda logits: {"out": logits}, r"a dict of \['out'\]"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_anything_else_is_one_line_that_says_what_came_and_what_to_do(make, message):
    images, labels = random_images(5, 3, 8, 8), torch.arange(5)
    for ask in (logits_of, lambda network, images: PGD(threat_model=Linf(0.1), steps=1)(network, images, labels)):
        with pytest.raises(UserError, match=message) as error:
            ask(Answering(make), images)
        assert "\n" not in str(error.value)
        assert "wrap it in a module whose forward returns them" in str(error.value)


class Casting(nn.Module):
    """Computes in another precision and says so by its answer."""

    def __init__(self, dtype):
        super().__init__()
        self.body, self.dtype = tapped(classes=5).to(dtype), dtype

    def forward(self, images):
        return self.body(images.to(self.dtype))


class Autocast(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = tapped(classes=5)

    def forward(self, images):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.body(images)


NETWORKS = {
    "float64 creeps in": lambda: Answering(lambda logits: logits + torch.zeros(5, dtype=torch.float64)),
    "float64 inside": lambda: Casting(torch.float64),
    "bfloat16 inside": lambda: Casting(torch.bfloat16),
    "float16 inside": lambda: Casting(torch.float16),
    "autocast": Autocast,
    "float64 weights": lambda: tapped(classes=5, dtype=torch.float64),
    "bfloat16 weights": lambda: tapped(classes=5).bfloat16(),
    "float16 weights": lambda: tapped(classes=5).half(),
}
SEEN = NeuralPerceptual(LPIPS(tapped(seed=9)), 0.4)
SEARCHES = {
    "pgd": PGD(threat_model=L2(0.5), steps=3),
    "flow": PGD(threat_model=StAdv(0.1), steps=2),
    "apgd": APGD(threat_model=Linf(8 / 255), steps=6),
    "apgd dlr": APGD(threat_model=L2(0.5), steps=6, goal=Untargeted(DLR()), restarts=2),
    "apgd ranked": APGD(threat_model=Linf(8 / 255), steps=4, goal=RankedTargets()),
    "sparse apgd": SparseAPGD(threat_model=L1(3.0), steps=10),
    "fab linf": FAB(threat_model=Linf(8 / 255), steps=3),
    "fab l2": FAB(threat_model=L2(0.5), steps=3, restarts=2),
    "fab l1": FAB(threat_model=L1(3.0), steps=3),
    "fab last": FAB(threat_model=L2(0.5), steps=3, goal=Untargeted(Margin()), iterate=Last()),
    "square": Square(threat_model=L1(3.0), queries=10),
    "lpa": LagrangianPerceptualAttack(threat_model=SEEN, searches=2, steps=3),
    "fast lpa": FastLagrangianPerceptualAttack(threat_model=SEEN, steps=4),
    "ppgd": PerceptualPGD(threat_model=SEEN, steps=2, iterations=3),
    "worst case": WorstCase(threat_model=L2(0.5), attacks={"fab": FAB(threat_model=L2(0.5), steps=3)}),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("attack", SEARCHES.values(), ids=SEARCHES)
def test_every_search_takes_networks_of_every_precision(attack, make):
    network, images = make().eval(), random_images(4, 3, 8, 8)
    labels = logits_of(network, images).argmax(1)
    result = attack(network, images, labels, seeds=torch.arange(4))
    assert result.images.dtype == torch.float32
    assert (result.size <= 1 + 1e-4).all() or not attack.stays_inside
    assert not result.images.equal(images)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attack", SEARCHES.values(), ids=SEARCHES)
def test_half_precision_images_are_searched_in_float32(attack, dtype):
    network, images = tapped(classes=5).to(dtype), random_images(4, 3, 8, 8).to(dtype)
    labels, seeds = logits_of(network, images).argmax(1), torch.arange(4)
    result = attack(network, images, labels, seeds=seeds)
    assert result.images.equal(attack(network, images.float(), labels, seeds=seeds).images)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_logits_have_the_precision_of_the_images_and_gradients_flow(make):
    images = random_images(4, 3, 8, 8).requires_grad_()
    logits = logits_of(make().eval(), images)
    assert logits.dtype == torch.float32
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    assert (gradient != 0).any()
    assert gradient.dtype == torch.float32


def test_logits_of_a_double_network_stay_double_for_double_images():
    network, images = tapped(classes=5, dtype=torch.float64), random_images(4, 3, 8, 8, dtype=torch.float64)
    assert logits_of(network, images).equal(network(images))


class Normalising(nn.Module):
    """Normalises in place, in one of the ways in which people do."""

    def __init__(self, way, body=None):
        super().__init__()
        self.body, self.way = tapped(classes=4) if body is None else body, way

    def forward(self, images):
        match self.way:
            case "in place":
                return self.body(images.sub_(0.4).div_(0.2))
            case "out=":
                return self.body(torch.div(images - 0.4, 0.2, out=images))
            case "a view":
                images.view(len(images), -1).sub_(0.4).div_(0.2)
            case "data":
                images.data.sub_(0.4).div_(0.2)
            case "not":
                images = (images - 0.4) / 0.2
        return self.body(images)


@pytest.mark.parametrize("way", ["in place", "a view", "data", "out="])
@pytest.mark.parametrize("count", [1, 3])
def test_images_stay_what_they_are_before_a_network_that_normalises_in_place(way, count):
    images, network = random_images(count, 3, 8, 8), Normalising(way)
    before = images.clone()
    expected = logits_of(Normalising("not"), images)
    with torch.no_grad():
        for _ in range(3):
            assert logits_of(network, images).equal(expected)
    assert images.equal(before)


@pytest.mark.parametrize("attack", SEARCHES.values(), ids=SEARCHES)
def test_a_search_finds_the_same_before_a_network_that_normalises_in_place(attack):
    images = random_images(4, 3, 8, 8)
    labels, seeds = logits_of(Normalising("not"), images).argmax(1), torch.arange(4)
    expected = attack(Normalising("not"), images, labels, seeds=seeds).images
    for _ in range(2):
        before = images.clone()
        assert attack(Normalising("in place"), images, labels, seeds=seeds).images.equal(expected)
        assert images.equal(before)


def test_the_library_measures_the_same_of_a_network_that_normalises_in_place():
    suite = AttackSuite(
        {
            "linf": APGD(threat_model=Linf(0.1), steps=5),
            "l2": PGD(threat_model=L2(0.6), steps=5),
            "black": Square(threat_model=Linf(0.1), queries=20),
        }
    )
    plain, result = (evaluate(Normalising(way).eval(), examples(), suite) for way in ("not", "in place"))
    for name, records in plain.items():
        assert records.drop("seconds").equals(result[name].drop("seconds"))
    assert any((records["clean_prediction"] != records["prediction"]).any() for records in plain.values())


def test_a_probe_returns_the_same_for_a_network_that_normalises_in_place():
    images = random_images(8, 3, 8, 8)
    labels = logits_of(Normalising("not"), images).argmax(1)
    suite = AttackSuite({"linf": PGD(threat_model=Linf(0.05), steps=3)})
    flags = [
        probe(Normalising(way).eval(), suite, Batch(images.clone(), labels, torch.arange(8)))
        for way in ("not", "in place")
    ]
    assert flags[0] == flags[1]


def test_a_network_of_taps_that_works_in_place_leaves_the_images_alone():
    class InPlace(nn.Module):
        def features(self, images):
            return (images.sub_(0.5)[:, :, ::2, ::2],)

        def tap(self, images):
            maps = self.features(images)
            return maps, (maps[0].mean((2, 3)), None)

        def forward(self, images):
            return self.tap(images)[1]

    network, images = InPlace().eval(), random_images(3, 3, 8, 8)
    before = images.clone()
    for _ in range(2):
        assert features_of(network, images)[0].equal((before - 0.5)[:, :, ::2, ::2])
        maps, logits = tap_of(network, images)
        assert maps[0].mean((2, 3)).equal(logits)
    attack = FastLagrangianPerceptualAttack(threat_model=NeuralPerceptual(SelfLPIPS(), 0.5), steps=3)
    assert attack(network, images, torch.arange(3)).images.isfinite().all()
    assert images.equal(before)


def test_a_network_that_begins_to_change_its_input_later_is_refused_in_one_line():
    network, images = Normalising("not"), random_images(2, 3, 8, 8)
    logits_of(network, images)
    network.way = "in place"
    with pytest.raises(UserError, match="changed its input in place, but not in its first forward"):
        logits_of(network, images)
    before = images.clone()
    logits_of(network, images)
    assert images.equal(before)


def test_ordinary_networks_are_asked_once_and_given_the_images_themselves():
    given = []

    class Noting(nn.Module):
        def forward(self, images):
            given.append(images)
            return images.flatten(1)[:, :4]

    network, images = Noting(), random_images(3, 3, 8, 8)
    for _ in range(3):
        logits_of(network, images)
    assert [each is images for each in given] == [False, True, True]  # the first, to see what becomes of it, is a copy


def test_errors_of_a_network_are_its_own():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.calls = nn.Parameter(torch.zeros(1)), 0

        def forward(self, images):
            self.calls += 1
            raise RuntimeError("a network's own words")

    network = Broken()
    with pytest.raises(RuntimeError, match="a network's own words"):
        logits_of(network, random_images(2, 3, 8, 8))
    assert network.calls == 1


def test_validation_of_a_defense_sees_the_images_as_they_are(monkeypatch):
    network = Normalising("in place")
    defense = NormalTraining(network, optimizer=torch.optim.SGD, schedule=None)
    images = random_images(6, 3, 8, 8)
    before, noted = images.clone(), {}
    monkeypatch.setattr(defense, "note", lambda stage, **values: noted.update(values))
    labels = logits_of(Normalising("not"), images).argmax(1)
    defense.validation_step(Batch(images, labels, torch.arange(6)), 0)
    assert noted["accuracy"].eq(1).all()
    assert images.equal(before)


def test_our_own_wrapper_hands_tuples_through():
    network = normalised(Answering(FORMS["named tuple"]), [0.5] * 3, [0.2] * 3)
    images = random_images(3, 3, 8, 8)
    assert logits_of(network, images).equal(network(images).logits)


def test_public_contracts_and_a_defense_take_a_network_that_answers_a_tuple():
    network = Answering(FORMS["tuple"], tapped(classes=5, dtype=torch.float64)).eval()
    check_attack(PGD(threat_model=Linf(0.1), steps=3), classifier=network)
    images = random_images(3, 3, 8, 8, dtype=torch.float64)
    defense = NormalTraining(network, optimizer=torch.optim.SGD, schedule=None)
    assert defense(images).equal(network.body(images))

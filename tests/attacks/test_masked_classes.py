"""A class at −∞ does not exist: every search does what it does on the classifier without that class."""

import pytest
import torch
from torch import nn

from gauntlet.attacks import APGD, FAB, PGD, FastLagrangianPerceptualAttack, Last, SparseAPGD, Square, WorstCase
from gauntlet.data import Batch
from gauntlet.defenses.trades import divergence
from gauntlet.defenses.variation import variation
from gauntlet.distances import LPIPS
from gauntlet.errors import NotFiniteError
from gauntlet.evaluation import AttackSuite, evaluate, probe
from gauntlet.folding import Folding, folded
from gauntlet.goals import RandomTarget, RankedTargets, Untargeted
from gauntlet.losses import DLR, CrossEntropy, Lead, Margin, TargetedDLR, margin
from gauntlet.noise import Noise
from gauntlet.threats import L1, L2, Linf, NeuralPerceptual
from tests.evaluation.tiny import examples
from tests.fixtures import random_images, tapped
from tests.test_folding import small

LIVE = torch.tensor([0, 2, 3, 6, 8])
DEAD = torch.tensor([1, 4, 5, 7])


class Masked(nn.Module):
    """Logits of classes that exist in their places among some that do not, in one of the usual ways."""

    def __init__(self, body, way="put"):
        super().__init__()
        self.body, self.way = body, way

    def forward(self, images):
        logits = self.body(images)
        whole = logits.new_full((len(logits), 9), 0.0).index_copy(1, LIVE, logits)
        mask = torch.zeros(9, dtype=torch.bool)
        mask[DEAD] = True
        if self.way == "added":
            return whole + torch.zeros(9, dtype=whole.dtype).masked_fill(mask, -torch.inf)
        return whole.masked_fill(mask, -torch.inf)


def rows(count, classes=5, seed=0):
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masked(logits):
    return Masked(nn.Identity())(logits)


@pytest.mark.parametrize("loss", [Margin(), Margin(1.0), CrossEntropy(), DLR()], ids=str)
@pytest.mark.parametrize("way", ["__call__", "towards"])
def test_losses_of_one_class_are_those_without_the_dead_classes(loss, way):
    logits, labels = rows(40).requires_grad_(), torch.arange(40) % 5
    plain, found = getattr(loss, way)(logits, labels), getattr(loss, way)(masked(logits), LIVE[labels])
    assert found.allclose(plain, rtol=1e-12)
    slopes = [torch.autograd.grad(each.sum(), logits)[0] for each in (plain, found)]
    assert slopes[0].allclose(slopes[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", [Lead(), TargetedDLR()], ids=str)
@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_losses_of_two_classes_are_those_without_the_dead_classes(loss, classes):
    logits = rows(40, classes).requires_grad_()
    whole = torch.cat((logits, logits.new_full((40, 3), -torch.inf)), 1)
    labels, rivals = torch.arange(40) % classes, (torch.arange(40) + 1) % classes
    plain, found = loss(logits, labels, rivals), loss(whole, labels, rivals)
    assert found.allclose(plain, rtol=1e-12)
    slopes = [torch.autograd.grad(each.sum(), logits)[0] for each in (plain, found)]
    assert slopes[0].allclose(slopes[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("classes", [2, 3])
def test_dlr_of_two_or_three_live_classes_is_that_of_two_or_three(classes):
    logits = rows(20, classes)
    whole = torch.cat((logits.new_full((20, 2), -torch.inf), logits), 1)
    labels = torch.arange(20) % classes
    assert DLR()(whole, labels + 2).allclose(DLR()(logits, labels))


def test_without_a_rival_the_lead_is_infinite_and_never_nan():
    logits = torch.tensor([[-torch.inf, 3.0, -torch.inf], [-torch.inf] * 3, [torch.inf, torch.inf, 0.0]])
    labels = torch.tensor([1, 1, 0])
    assert margin(logits, labels).tolist() == [torch.inf, 0.0, 0.0]
    for loss in (Margin(), DLR()):
        assert not loss(logits, labels).isnan().any()
    assert not TargetedDLR()(logits, labels, torch.tensor([0, 0, 1])).isnan().any()


@pytest.mark.parametrize("seed", range(3))
def test_random_targets_are_those_without_the_dead_classes(seed):
    labels, noise = torch.arange(200) % 5, Noise(torch.arange(200) + 1000 * seed)
    plain = RandomTarget().of(labels, noise).targets(rows(200))
    found = RandomTarget().of(LIVE[labels], noise).targets(masked(rows(200)))
    assert found.equal(LIVE[plain])
    assert (found != LIVE[labels]).all()


def test_a_random_target_of_a_dead_label_is_alive():
    labels = DEAD[torch.arange(400) % 4]
    targets = RandomTarget().of(labels, Noise(torch.arange(400))).targets(masked(rows(400)))
    assert set(targets.tolist()) == set(LIVE.tolist())


@pytest.mark.parametrize("count", [1, 3, 9])
def test_ranked_targets_are_alive_the_likeliest_first_and_come_again_where_there_are_no_more(count):
    logits, labels = rows(30), torch.arange(30) % 5
    plain = RankedTargets(targets=count).of(labels, Noise(labels)).aimed(lambda: logits)
    found = RankedTargets(targets=count).of(LIVE[labels], Noise(labels)).aimed(lambda: masked(logits))
    assert found.turns == min(count, 8)
    assert found.rivals[:, : plain.turns].equal(LIVE[plain.rivals])
    for turn in range(plain.turns, found.turns):
        assert found.rivals[:, turn].equal(found.rivals[:, turn - 4])


def test_ranked_targets_of_an_example_do_not_depend_on_how_many_classes_its_mates_have():
    logits = rows(4, 9)
    logits[0, 1:8] = -torch.inf
    labels = torch.zeros(4, dtype=torch.long)
    whole = RankedTargets().of(labels, Noise(labels)).aimed(lambda: logits)
    alone = RankedTargets().of(labels[:1], Noise(labels[:1])).aimed(lambda: logits[:1])
    assert whole.rivals[:1].equal(alone.rivals)
    assert alone.rivals.tolist() == [[8] * 8]


def network():
    body = tapped(classes=5, dtype=torch.float64)
    with torch.no_grad():
        body.head[2].weight.mul_(3)
    return body


SEARCHES = {
    "pgd": PGD(threat_model=Linf(0.05), steps=4),
    "pgd targeted": PGD(threat_model=L2(0.5), steps=4, goal=RandomTarget()),
    "pgd targeted margin": PGD(threat_model=L2(0.5), steps=4, goal=RandomTarget(Margin()), iterate=Last()),
    "apgd": APGD(threat_model=Linf(0.05), steps=8),
    "apgd dlr": APGD(threat_model=Linf(0.05), steps=8, goal=Untargeted(DLR())),
    "apgd ranked": APGD(threat_model=L2(0.3), steps=5, goal=RankedTargets(targets=4)),
    "sparse": SparseAPGD(threat_model=L1(3.0), steps=10),
    "fab": FAB(threat_model=L2(0.5), steps=4, goal=RankedTargets(Lead(), targets=4)),
    "fab untargeted": FAB(threat_model=Linf(0.05), steps=4, goal=Untargeted(Margin())),
    "square": Square(threat_model=Linf(0.05), queries=30),
    "fast lpa": FastLagrangianPerceptualAttack(
        threat_model=NeuralPerceptual(LPIPS(tapped(seed=9, dtype=torch.float64)), 0.4), steps=4
    ),
    "worst": WorstCase(
        threat_model=L2(0.3), attacks={"dlr": APGD(threat_model=L2(0.3), steps=4, goal=Untargeted(DLR()))}
    ),
}


@pytest.mark.parametrize("way", ["put", "added"])
@pytest.mark.parametrize("attack", SEARCHES.values(), ids=SEARCHES)
def test_a_search_finds_what_it_finds_without_the_dead_classes(attack, way):
    images, seeds = random_images(8, 3, 8, 8, dtype=torch.float64), torch.arange(8)
    labels = network()(images).argmax(1)
    plain = attack(network(), images, labels, seeds=seeds)
    found = attack(Masked(network(), way), images, LIVE[labels], seeds=seeds)
    assert found.images.allclose(plain.images, rtol=0, atol=1e-9)


@pytest.mark.parametrize("attack", SEARCHES.values(), ids=SEARCHES)
def test_a_label_that_does_not_exist_and_a_label_without_rivals_stop_nothing(attack):
    class Lonely(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, images):
            keep = torch.zeros(5, dtype=torch.bool)
            keep[2] = True
            return self.body(images).masked_fill(~keep, -torch.inf)

    images = random_images(4, 3, 8, 8, dtype=torch.float64)
    found = attack(Lonely(), images, torch.tensor([2, 2, 0, 1]), seeds=torch.arange(4)).images
    assert found.isfinite().all()
    assert ((found >= 0) & (found <= 1)).all()


def test_nan_is_still_nan():
    class Torn(nn.Module):
        def forward(self, images):
            logits = images.flatten(1)[:, :4].clone()
            logits[:, 1] = -torch.inf
            logits[images.flatten(1).mean(1) > 0.85, 2] = torch.nan
            return logits

    images = random_images(3, 3, 4, 4)
    images[1] = 1
    with pytest.raises(NotFiniteError, match="answered NaN for example 1 of the batch"):
        PGD(threat_model=Linf(0.1), steps=1)(Torn(), images, torch.zeros(3, dtype=torch.long))


def test_the_library_and_the_probe_measure_the_same_without_the_dead_classes():
    class Double(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(images.double())

    class Padded(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            return nn.functional.pad(self.network(images), (0, 6), value=-torch.inf)

    body = tapped(classes=4, dtype=torch.float64)
    suite = AttackSuite(
        {
            "dlr": APGD(threat_model=Linf(0.1), steps=6, goal=Untargeted(DLR())),
            "targeted": APGD(threat_model=Linf(0.1), steps=4, goal=RankedTargets(targets=3)),
            "fab": FAB(threat_model=L2(0.6), steps=4, goal=RankedTargets(Lead(), targets=3)),
        }
    )
    split = examples()
    plain, found = (evaluate(each.eval(), split, suite) for each in (Double(body), Padded(Double(body))))
    for name, records in plain.items():
        assert records["correct"].equals(found[name]["correct"])
        assert records["margin"].to_list() == pytest.approx(found[name]["margin"].to_list(), abs=1e-5)
        assert not records["correct"].all()
    some = split[slice(0, 12)]
    flags = [probe(each.eval(), suite, some) for each in (Double(body), Padded(Double(body)))]
    assert [flag.name for flag in flags[0]] == [flag.name for flag in flags[1]]
    assert [flag.raised for flag in flags[0]] == [flag.raised for flag in flags[1]]


def test_a_probe_still_sees_that_logits_depend_on_the_batch():
    class Batchwise(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = tapped(classes=4)

        def forward(self, images):
            return nn.functional.pad(self.body(images - images.mean(0)), (0, 2), value=-torch.inf)

    suite = AttackSuite({"linf": PGD(threat_model=Linf(0.05), steps=1)})
    batch = Batch(random_images(8, 3, 8, 8), torch.zeros(8, dtype=torch.long), torch.arange(8))
    flags = {flag.name: flag for flag in probe(Batchwise().eval(), suite, batch)}
    assert flags["batch"].value == 1
    assert flags["logits"].value == 0


def test_masked_networks_are_folded_and_what_leads_by_much_is_not_doubtful():
    class Ten(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = small()

        def forward(self, images):
            return nn.functional.pad(self.body(images), (0, 3), value=-torch.inf)

    with folded(Ten().eval(), random_images(2, 3, 32, 32, dtype=torch.float64)) as folding:
        assert len(folding) > 0
    logits = torch.tensor([[3.0, 1.0, -torch.inf], [1.0, 1.0, -torch.inf], [1.0, -torch.inf, -torch.inf]])
    assert Folding(()).doubtful(logits).tolist() == [False, True, False]


def test_the_terms_of_defenses_are_those_without_the_dead_classes():
    one, other = rows(10, seed=1).requires_grad_(), rows(10, seed=2)
    for term in (divergence, lambda a, b: variation(torch.cat((a, b)))):
        plain, found = term(one, other), term(masked(one), masked(other))
        assert found.allclose(plain)
        slopes = [torch.autograd.grad(each.sum(), one)[0] for each in (plain, found)]
        assert slopes[0].allclose(slopes[1])

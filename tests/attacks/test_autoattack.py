"""AutoAttack beside its authors' package, example by example, on real networks and real images; and as a config."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from gauntlet.attacks import APGD, FAB, Best, SparseAPGD, Square, WorstCase
from gauntlet.config.compose import CONF, plain, register_resolvers
from gauntlet.config.instantiate import check_targets, instantiate
from gauntlet.goals import RankedTargets, Untargeted
from gauntlet.losses import DLR, CrossEntropy, LogitDifference, Margin
from gauntlet.noise import Noise
from gauntlet.threats import L1, L2, Linf
from gauntlet.threats.l1 import knapsack
from tests.fixtures import LinearClassifier, batch_of, random_images
from tests.networks import cifar10, resnet32

DOUBLE = torch.float64
NORMS = {Linf: "Linf", L2: "L2", L1: "L1"}


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("pyautoattack", reason="AutoAttack's own package is in the test extra")


def right(name, count, dtype=torch.float32):
    """A network, and those of the first real images that it gets right."""
    classifier = resnet32(name, dtype)
    images, labels = cifar10(count, dtype)
    with torch.no_grad():
        keep = classifier(images).argmax(1) == labels
    return classifier, images[keep], labels[keep]


def lead(classifier, images, labels):
    with torch.no_grad():
        return Margin()(classifier(images), labels)


@pytest.mark.parametrize("threat", [Linf(2 / 255), L2(0.25)])
def test_apgd_reaches_the_cross_entropy_of_the_package(package, threat):
    """In float64, from the same start, all hundred steps: the same best cross-entropy for every example.

    Bounds so small that no attack succeeds: ours would stop there.
    """
    from pyautoattack.autopgd_base import APGDAttack

    classifier, images, labels = right("delta", 2, DOUBLE)
    seeds = torch.arange(len(images))
    theirs = APGDAttack(classifier, n_iter=100, norm=NORMS[type(threat)], eps=threat.bound, loss="ce", device="cpu")
    theirs.init_hyperparam(images)
    start = images + threat.around(batch_of(images)).start(Noise(seeds))
    best, still_correct, loss, _ = theirs.attack_single_run(images, labels, x_init=start.clone())
    result = APGD(threat_model=threat, goal=Untargeted(CrossEntropy()))(classifier, images, labels, seeds=seeds)
    with torch.no_grad():
        ours = CrossEntropy()(classifier(result.images), labels)
    assert still_correct.all(), "the test needs examples that stay correct"
    assert ours.allclose(loss, rtol=1e-6)
    assert result.images.allclose(best, rtol=0, atol=1e-6)


def linear(shape, bound, count=6):
    """A linear classifier, images of medium margin that it gets right, and by how much it can fall at most, `[N]`.

    The boundary lies a half of that beyond the worst case, so that no attack succeeds and no cross-entropy rounds to 0.
    """
    classifier = LinearClassifier(torch.Size(shape).numel())
    many, weight = random_images(60, *shape), classifier.weight.detach()
    images = many[(many.flatten(1) @ weight).argsort()[30 : 30 + count]]
    room = torch.where(weight > 0, images.flatten(1), 1 - images.flatten(1))
    worst = (knapsack(room, weight.abs().expand(count, -1), bound) * weight.abs()).sum(1)
    classifier.weight.data /= worst.amax()
    classifier.bias.data = 1.5 - (images.flatten(1) @ classifier.weight.detach()).amin()
    return classifier, images, torch.zeros(count, dtype=torch.long), 2 * worst / worst.amax()


@pytest.mark.parametrize(("shape", "bound"), [((3, 7, 5), 0.3), ((3, 7, 5), 10.0), ((3, 16, 16), 6.0)])
def test_in_the_l1_ball_apgd_comes_to_rest_where_the_packages_does(package, shape, bound):
    """From the same start, in the ball itself: the same share of the optimum for all but one, which rounding parts."""
    from pyautoattack.autopgd_base import APGDAttack

    classifier, images, labels, best = linear(shape, bound)
    start = images + L1(bound).around(batch_of(images)).start(Noise(torch.arange(len(images))))
    theirs = APGDAttack(classifier, n_iter=100, norm="L1", eps=bound, loss="ce", device="cpu")
    theirs.init_hyperparam(images)
    other = theirs.attack_single_run(images, labels, x_init=start)[0]
    one_stage = SparseAPGD(threat_model=L1(bound), steps=100, radii=[1], shares=[1])
    result = one_stage(classifier, images, labels, seeds=torch.arange(len(images))).images
    ours, packages = (
        (classifier.margin(some, labels) - classifier.margin(images, labels)) / best for some in (result, other)
    )
    assert ((ours - packages).abs() < 2e-3).sum() >= len(images) - 1
    assert (ours > packages - 0.01).all()
    assert (ours > 0.9).all()
    assert (ours <= 1 + 1e-5).all()


@pytest.mark.parametrize("bound", [0.3, 2.5, 10.0])
def test_autoattack_for_l1_breaks_a_linear_classifier_wherever_it_can_be_broken(bound):
    """With the boundary at 99 % of the worst case SparseAPGD alone may fail; the four in turn do not."""
    for index in range(4):
        classifier, images, labels, best = linear((3, 7, 5), bound)
        images, labels = images[index : index + 1], labels[:1]
        attack = in_turn(L1(bound), steps=20, queries=20, targets=1)
        for share, misclassified in ((0.99, True), (1.001, False)):
            lead_now = classifier.margin(images, labels)
            classifier.bias.data += (lead_now + share * best[index])[0] / 2
            result = attack(classifier, images, labels, seeds=torch.tensor([index]))
            assert (classifier(result.images).argmax(1) != labels).item() == misclassified


def test_dlr_is_the_packages(package):
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    labels, rivals = torch.arange(20) % 10, (torch.arange(20) + 3) % 10
    assert DLR()(logits, labels).allclose(APGDAttack(None, eps=1.0, device="cpu").dlr_loss(logits, labels))
    theirs = APGDAttack_targeted(None, eps=1.0, device="cpu")
    theirs.y_target = rivals
    assert RankedTargets().loss(logits, labels, rivals).allclose(theirs.dlr_loss_targeted(logits, labels))


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_hyperplane_projections_are_the_packages(package, norm):
    """The package's takes w, b of w·z = b; the distance is the same, and on the plane we are exact."""
    from pyautoattack import fab_projections

    from gauntlet.attacks.hyperplanes import mover, onto_hyperplane

    random = torch.Generator().manual_seed(0)
    points = torch.rand(50, 30, generator=random, dtype=DOUBLE)
    weights = torch.randn(50, 30, generator=random, dtype=DOUBLE)
    level = (weights * torch.rand(50, 30, generator=random, dtype=DOUBLE)).sum(1)
    theirs = getattr(fab_projections, f"projection_{norm.lower()}")(points, weights, level)
    threat = {"Linf": Linf(1.0), "L2": L2(1.0), "L1": L1(1.0)}[norm]
    ours = onto_hyperplane(points, weights, level - (weights * points).sum(1), mover(threat))
    p = {"Linf": torch.inf, "L2": 2, "L1": 1}[norm]
    assert ours.norm(p=p, dim=1).allclose(theirs.norm(p=p, dim=1), rtol=1e-6, atol=1e-9)
    assert (weights * (points + ours)).sum(1).allclose(level, atol=1e-9)


def single(package_name, classifier, norm, bound, steps, queries, targets):
    """One of the package's attacks, and ours."""
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
    from pyautoattack.fab_pt import FABAttack_PT
    from pyautoattack.square import SquareAttack

    threat = {name: kind for kind, name in NORMS.items()}[norm](bound)
    apgd, shared = (SparseAPGD if norm == "L1" else APGD), {"norm": norm, "eps": bound, "device": "cpu", "seed": 0}
    if package_name == "apgd":
        theirs = APGDAttack(classifier, n_iter=steps, use_largereps=norm == "L1", **shared)
        return apgd(threat_model=threat, steps=steps), theirs
    if package_name == "apgd targeted":
        theirs = APGDAttack_targeted(classifier, n_iter=steps, use_largereps=norm == "L1", **shared)
        theirs.n_target_classes = targets
        return apgd(threat_model=threat, steps=steps, goal=RankedTargets(targets=targets)), theirs
    if package_name == "fab":
        theirs = FABAttack_PT(classifier, n_iter=steps, **shared)
        theirs.targeted, theirs.n_target_classes = True, targets
        return FAB(threat_model=threat, steps=steps, goal=RankedTargets(LogitDifference(), targets)), theirs
    theirs = SquareAttack(classifier, n_queries=queries, **shared)
    return Square(threat_model=threat, queries=queries), theirs


def compare(name, attack, norm, bound, count, **budget):
    """Whom either breaks; how far from the boundary ours left those that only the package broke."""
    classifier, images, labels = right(name, count)
    ours, theirs = single(attack, classifier, norm, bound, **budget)
    result = ours(classifier, images, labels, seeds=torch.arange(len(images))).images
    other = theirs.perturb(images, labels)
    other = other[1] if isinstance(other, tuple) else other
    inside = ours.threat_model.around(batch_of(images)).size(other - images) <= 1 + 1e-3
    return lead(classifier, result, labels), torch.where(
        inside, lead(classifier, other, labels), lead(classifier, images, labels)
    )


@pytest.mark.parametrize(
    ("attack", "norm", "bound", "slack"),
    [
        ("apgd", "Linf", 6 / 255, 0.2),
        ("apgd", "L2", 0.6, 0.2),
        ("apgd", "L1", 12.0, 0.4),
        ("fab", "Linf", 6 / 255, 0.4),
        ("fab", "L1", 12.0, 0.6),
    ],
)
def test_breaks_what_the_package_breaks(package, attack, norm, bound, slack):
    """But for examples of a lead of at most `slack`, in logits, with starts of their own."""
    ours, theirs = compare("delta", attack, norm, bound, 8, steps=20, queries=0, targets=1)
    assert (ours > -slack)[(theirs > 0) & (ours <= 0)].all()
    assert (theirs > -slack)[(ours > 0) & (theirs <= 0)].all()
    assert (ours > 0).any()
    assert (ours > 0).sum() >= (theirs > 0).sum() - 1


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("attack", ["apgd", "apgd targeted", "fab", "square"])
def test_breaks_what_the_package_breaks_at_full_budgets(package, attack, norm):
    bound = {"Linf": 6 / 255, "L2": 0.6, "L1": 12.0}[norm]
    ours, theirs = compare("delta", attack, norm, bound, 24, steps=100, queries=1000, targets=9)
    assert ((ours > 0) != (theirs > 0)).sum() <= (4 if attack == "square" else 2)
    assert (ours > -0.5)[(theirs > 0) & (ours <= 0)].all()


def in_turn(threat, steps=100, queries=5000, targets=9, restarts=1):
    """The four attacks; the defaults are the standard version's for L∞ and L2."""
    apgd = SparseAPGD if isinstance(threat, L1) else APGD
    ranked = RankedTargets(targets=min(targets, 5) if isinstance(threat, L1) else targets)
    return WorstCase(
        threat_model=threat,
        attacks={
            "apgd": apgd(threat_model=threat, steps=steps, restarts=restarts),
            "apgd targeted": apgd(threat_model=threat, steps=steps, goal=ranked),
            "fab": FAB(threat_model=threat, steps=steps, goal=RankedTargets(LogitDifference(), targets)),
            "square": Square(threat_model=threat, queries=queries),
        },
    )


def the_packages(classifier, threat):
    """The standard version as it comes."""
    from pyautoattack import AutoAttack

    return AutoAttack(classifier, norm=NORMS[type(threat)], eps=threat.bound, seed=0, device="cpu")


def leads(name, threat, count, ours, theirs):
    """The negative margin on either attack's images, `[n]` each; ≤ 0 where still correct."""
    classifier, images, labels = right(name, count)
    result = ours(threat)(classifier, images, labels, seeds=torch.arange(len(images))).images
    other = theirs(classifier, threat).run_standard_evaluation(images, labels, batch_size=len(images))[0]
    assert (threat.around(batch_of(images)).size(other - images) <= 1 + 1e-4).all()
    return lead(classifier, result, labels), lead(classifier, other, labels)


@pytest.mark.parametrize(
    ("name", "threat"),
    [
        ("normal", Linf(1 / 255)),
        ("delta", Linf(5 / 255)),
        ("recoloradv_stadv_delta", Linf(5 / 255)),
        ("delta", L2(0.8)),
        ("delta", L1(8.0)),
    ],
)
def test_autoattack_agrees_with_the_package_with_small_budgets(package, name, threat):
    def theirs(classifier, threat):
        whole = the_packages(classifier, threat)
        whole.apgd.n_iter = whole.apgd_targeted.n_iter = whole.fab.n_iter = 8
        whole.apgd.n_iter_orig = whole.apgd_targeted.n_iter_orig = 8
        whole.apgd_targeted.n_target_classes = whole.fab.n_target_classes = whole.apgd.n_restarts = 1
        whole.square.n_queries = 20
        return whole

    ours, package_s = leads(name, threat, 8, lambda threat: in_turn(threat, 8, 20, 1), theirs)
    assert ((ours > 0) != (package_s > 0)).sum() <= 1


STANDARD = {
    "normal": (Linf(1 / 255), L2(0.2), L1(5.0)),  # at 8/255 nothing is left of it
    "delta": (Linf(8 / 255), L2(1.5), L1(22.0)),
    "recoloradv_stadv_delta": (Linf(8 / 255), L2(1.5), L1(22.0)),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)  # up to 740 s on a processor without AVX-512, beside other jobs
@pytest.mark.parametrize(
    ("name", "threat"), [(name, threat) for name, threats in STANDARD.items() for threat in threats], ids=str
)
def test_autoattack_agrees_with_the_package(package, name, threat):
    """The standard version with the whole budget; examples broken by only one of the two are next to the boundary."""
    restarts = 5 if isinstance(threat, L1) else 1
    ours, theirs = leads(name, threat, 22, lambda threat: in_turn(threat, restarts=restarts), the_packages)
    differ = (ours > 0) != (theirs > 0)
    assert differ.sum() <= 1
    assert (torch.minimum(ours, theirs)[differ] > -0.5).all()


def test_the_suite_builds_the_standard_version_with_one_threat_model_for_all():
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["defense=normal", "attack_suite=autoattack"], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        whole = plain(config)
    check_targets(whole)
    suite = instantiate(whole["attack_suite"])
    bounds = whole["dataset"]["bounds"]
    for name, threat in (("linf", Linf(bounds["linf"])), ("l2", L2(bounds["l2"])), ("l1", L1(bounds["l1"]))):
        attack = suite.attacks[name]
        assert attack.threat_model == threat
        assert list(attack.attacks) == ["apgd", "apgd_targeted", "fab", "square"]
        assert type(attack.attacks) is dict
        assert all(part.threat_model == threat and part.iterate == Best() for part in attack.attacks.values())
    linf, l1 = suite.attacks["linf"].attacks, suite.attacks["l1"].attacks
    assert linf["apgd"] == APGD(threat_model=Linf(bounds["linf"]), steps=100)
    assert linf["apgd_targeted"].goal == RankedTargets(targets=9)
    assert linf["fab"] == FAB(threat_model=Linf(bounds["linf"]))
    assert linf["square"] == Square(threat_model=Linf(bounds["linf"]), queries=5000)
    assert l1["apgd"] == SparseAPGD(threat_model=L1(bounds["l1"]), restarts=5)
    assert l1["apgd_targeted"].goal == RankedTargets(targets=5)

"""Flags: a masked classifier raises the right ones and a sound one none; records tell the rest."""

from dataclasses import dataclass, replace

import polars as pl
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gauntlet.attacks import PGD, Adversarial, Attack
from gauntlet.data import Digits
from gauntlet.evaluation import AttackSuite, Flag, flags_of_records, probe, read_flags, write_flags
from gauntlet.goals import Untargeted
from gauntlet.losses import CrossEntropy, Margin
from gauntlet.models import small_resnet
from gauntlet.noise import Noise, mix
from gauntlet.threats import L2, Linf
from gauntlet.transforms import Clean
from gauntlet.varied import BOUND, SPREAD, STEPS, scaled

LINF, L2_BALL = (
    PGD(threat_model=Linf(0.05), steps=10, step_size=0.3),
    PGD(threat_model=L2(0.5), steps=10, step_size=0.3),
)
SUITE = AttackSuite({"clean": Clean(), "linf": LINF, "l2": L2_BALL})


@pytest.fixture(scope="module")
def digits():
    return Digits(size=16).splits


@pytest.fixture(scope="module")
def hardened(digits):
    """Adversarially trained for a few seconds: enough to withstand something, and honest."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = small_resnet(10, [0.3] * 3, [0.3] * 3, width=8)
    attack = PGD(threat_model=Linf(0.05), steps=2, step_size=0.7)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for epoch in range(4):
        for rows in mix(epoch, torch.arange(len(digits.train))).argsort().split(100):
            images, labels, ids, _ = digits.train[rows]
            attacked = attack(network, images, labels, seeds=ids).images
            optimizer.zero_grad()
            F.cross_entropy(network.train()(attacked), labels).backward()
            optimizer.step()
    return network.eval()


@pytest.fixture
def batch(digits):
    return digits.test[:32]


def raised(flags):
    return {(flag.name, flag.attack) for flag in flags if flag.raised}


def test_a_sound_classifier_raises_no_flag_and_is_left_as_it_was(hardened, batch):
    before = {name: tensor.clone() for name, tensor in hardened.state_dict().items()}
    flags = probe(hardened.train(), SUITE, batch)
    assert raised(flags) == set()
    assert {flag.name for flag in flags} == {
        "deterministic", "logits", "batch", "unbounded", "gradients", "black box", "bound", "converged",
    }  # fmt: skip
    assert {flag.attack for flag in flags} == {None, "linf", "l2"}
    assert hardened.training
    assert all(parameter.requires_grad for parameter in hardened.parameters())
    assert all(tensor.equal(before[name]) for name, tensor in hardened.state_dict().items())
    assert flags == probe(hardened.eval(), SUITE, batch)


class Quantised(nn.Module):
    """Rounds the pixels, so that no gradient passes."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network((images * 4).round() / 4)


class Saturated(Quantised):
    """Answers probabilities of huge logits: 0 and 1 to the last bit."""

    def forward(self, images):
        return (1e4 * self.network(images)).softmax(1)


class Detached(Quantised):
    """Hangs on no graph at all."""

    def forward(self, images):
        return self.network(images).detach()


class Noisy(Quantised):
    """Draws random numbers in every forward."""

    def forward(self, images):
        return self.network(images + 0.1 * torch.randn_like(images))


class Sociable(Quantised):
    """Centres its logits over the batch."""

    def forward(self, images):
        logits = self.network(images)
        return logits - 0.1 * logits.mean(0)


class Last(nn.Module):
    """Makes something else of the logits at the end."""

    def __init__(self, network, end):
        super().__init__()
        self.network, self.end = network, end

    def forward(self, images):
        return self.end(self.network(images))


PROBABILITIES = {
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": lambda logits: logits.sigmoid(),
    "bfloat16 softmax": lambda logits: logits.bfloat16().softmax(1),
    "float16 sigmoid": lambda logits: logits.half().sigmoid(),
    "softmax beside dead classes": lambda logits: F.pad(logits.softmax(1), (0, 3), value=-torch.inf),
}
UNBOUNDED = {
    "logits": lambda logits: logits,
    "log-probabilities": lambda logits: logits.log_softmax(1),
    "logarithm of a sigmoid": F.logsigmoid,
    "bfloat16 log-probabilities": lambda logits: logits.bfloat16().log_softmax(1),
    "log-probabilities beside dead classes": lambda logits: F.pad(logits.log_softmax(1), (0, 3), value=-torch.inf),
}


@pytest.mark.parametrize(
    ("end", "flagged"),
    [*((end, True) for end in PROBABILITIES.values()), *((end, False) for end in UNBOUNDED.values())],
    ids=[*PROBABILITIES, *UNBOUNDED],
)
def test_answers_in_0_to_1_are_flagged_and_log_probabilities_are_not(hardened, batch, end, flagged):
    assert (("logits", None) in raised(probe(Last(hardened, end), AttackSuite({}), batch))) is flagged


@pytest.mark.parametrize("masked", [Quantised, Saturated])
def test_masked_gradients_are_found(hardened, batch, masked):
    flags = raised(probe(masked(hardened), SUITE, batch))
    assert (("logits", None) in flags) == (masked is Saturated)
    assert {("gradients", "linf"), ("gradients", "l2"), ("unbounded", None)} <= flags
    assert not {"deterministic", "batch"} & {name for name, _ in flags}


def test_a_saturated_loss_marks_the_attack_that_climbs_it_and_no_other(hardened, batch):
    """Cross-entropy of logits a thousand times too large is flat where the margin is not."""
    sharp = nn.Sequential(hardened, Scaled(1e3))
    attacks = {"margin": LINF, "entropy": replace(LINF, goal=Untargeted(CrossEntropy()))}
    flags = raised(probe(sharp, AttackSuite(attacks), batch))
    assert ("gradients", "entropy") in flags
    assert ("gradients", "margin") not in flags
    assert ("unbounded", None) not in flags


def test_a_margin_that_is_flat_beyond_its_goal_is_no_masked_gradient(hardened, batch):
    """Some random starts in a wide ball are wrong already: there is nothing left to climb."""
    capped = PGD(threat_model=Linf(0.5), steps=5, goal=Untargeted(Margin(kappa=0.0)))
    region = capped.threat_model.around(batch)
    start = region.perturb(region.start(Noise(batch.ids)))
    with torch.no_grad():
        assert (hardened(start).argmax(1) != batch.labels).float().mean() > 0.05  # more than the flag allows
    flags = raised(probe(hardened, AttackSuite({"capped": capped}), batch))
    assert ("gradients", "capped") not in flags


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, logits):
        return self.factor * logits


def test_a_random_classifier_is_found(hardened, batch):
    assert ("deterministic", None) in raised(probe(Noisy(hardened), SUITE, batch))


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_a_classifier_that_depends_on_the_batch_is_flagged_whatever_the_scale_of_its_logits(hardened, batch, scale):
    for network, flagged in ((Sociable(hardened), True), (hardened, False)):
        flags = raised(probe(nn.Sequential(network, Scaled(scale)), AttackSuite({"clean": Clean()}), batch))
        assert (("batch", None) in flags) == flagged


def test_an_attack_that_has_not_converged_is_found(hardened, batch):
    slow = AttackSuite({"slow": replace(LINF, steps=2, step_size=0.05)})
    assert ("converged", "slow") in raised(probe(hardened, slow, batch))


@dataclass(frozen=True)
class Timid(Attack):
    """Gives up in a threat model larger than it is used to, and finds less than noise does from the beginning."""

    threat_model: Linf
    usual: float

    def __call__(self, classifier, images, labels, *, seeds=None):
        if self.threat_model.bound <= self.usual:
            return replace(LINF, threat_model=self.threat_model)(classifier, images, labels, seeds=seeds)
        return Adversarial(images, torch.zeros_like(images), images.new_zeros(len(images)))


def test_an_attack_that_fails_at_a_larger_bound_is_found(hardened, batch):
    suite = AttackSuite({"timid": Timid(Linf(0.1), 0.1)})
    assert raised(probe(hardened, suite, batch)) == {("bound", "timid")}


def test_an_attack_weaker_than_noise_is_found(hardened, batch):
    suite = AttackSuite({"idle": Timid(Linf(0.4), 0.0)})
    assert ("black box", "idle") in raised(probe(hardened, suite, batch))


class Brittle(Quantised):
    """NaN away from grey."""

    def forward(self, images):
        far = ((images < 0.05) | (images > 0.95)).flatten(1).any(1)
        return self.network(images) + torch.where(far, torch.nan, 0.0)[:, None]


def test_a_check_that_fails_is_a_flag_and_costs_no_evaluation(hardened, batch):
    greys = batch._replace(images=batch.images * 0.5 + 0.25)
    suite = AttackSuite({"noise": replace(LINF, steps=0)})
    (flag,) = [flag for flag in probe(Brittle(hardened), suite, greys) if flag.raised]
    assert (flag.name, flag.attack) == ("unbounded", None)
    assert "could not be checked: the classifier answered NaN" in flag.explanation


def test_nothing_right_and_nothing_there_raise_nothing(hardened, digits):
    wrong = digits.test[:8]
    wrong = wrong._replace(labels=(hardened(wrong.images).argmax(1) + 1) % 10)
    assert {flag.name for flag in probe(hardened, SUITE, wrong)} == {"deterministic", "logits", "batch"}
    assert raised(probe(hardened, SUITE, digits.test[:0])) == set()


def test_numbers_are_scaled_all_the_way_down():
    tree = {"attacks": [LINF, Clean()], "steps": 3}
    twice = scaled(tree, STEPS, 2)
    assert twice["attacks"][0] == replace(LINF, steps=20)
    assert twice["attacks"][1] is tree["attacks"][1]
    assert scaled(LINF, BOUND, 2).threat_model == Linf(0.1)
    assert scaled(LINF, SPREAD, 2) is LINF
    with pytest.raises(ValueError, match=r"not in \[0, 1\]"):
        scaled(Linf(0.6), BOUND, 2)


def frame(correct, inside=None):
    return pl.DataFrame(
        {"example_id": range(len(correct)), "correct": correct, "inside": inside or [True] * len(correct)},
        schema_overrides={"correct": pl.Boolean},
    )


def test_records_outside_the_threat_model_raise_a_flag():
    suite = AttackSuite({"linf": LINF, "l2": L2_BALL})
    flags = flags_of_records(suite, {"linf": frame([True] * 4, [True, True, True, False]), "l2": frame([True] * 4)})
    assert raised(flags) == {("outside", "linf")}
    assert flags[0].value == 0.25


def test_records_tell_that_accuracy_rises_with_the_bound_of_one_threat_model():
    attacks = {
        "wide": replace(LINF, threat_model=Linf(0.1)),
        "narrow": LINF,
        "l2": replace(L2_BALL, threat_model=L2(9)),
    }
    suite = AttackSuite(attacks)
    right = {"wide": frame([True, True, False]), "narrow": frame([True, False, False]), "l2": frame([True] * 3)}
    assert raised(flags_of_records(suite, right)) == {("bound", "wide")}
    assert raised(flags_of_records(suite, {**right, "wide": frame([False, True, False])})) == set()


def test_records_tell_that_noise_breaks_what_gradients_do_not():
    suite = AttackSuite({"linf": LINF, "strong": replace(LINF, steps=50), "noise": replace(LINF, steps=0)})
    right = {
        "linf": frame([True, True, False]),
        "strong": frame([True, False, True]),
        "noise": frame([True, False, True]),
    }
    assert raised(flags_of_records(suite, right)) == set()  # the two with gradients broke it together
    right["noise"] = frame([False, True, True])
    assert raised(flags_of_records(suite, right)) == {("black box", "linf"), ("black box", "strong")}


def test_flags_are_read_as_they_were_written_and_belong_to_their_weights(tmp_path):
    flags = [Flag("gradients", "linf", 0.5, 0.05, "why"), Flag("unbounded", None, 0.0, 0.0, "why")]
    assert read_flags(tmp_path, "quick", "c0ffee") is None
    write_flags(tmp_path, "quick", "c0ffee", flags)
    assert read_flags(tmp_path, "quick", "c0ffee") == flags
    assert [flag.raised for flag in flags] == [True, False]
    assert read_flags(tmp_path, "quick", "other") is None
    assert list((tmp_path / "suites").glob("*.json")) == []  # no suite's plan

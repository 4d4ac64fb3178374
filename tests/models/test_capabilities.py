"""Searches ascend a surrogate and succeed by the forward; models that optimise inside forward work everywhere."""

import pytest
import torch
from lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from gauntlet.acceleration import Folding, folded
from gauntlet.attacks import APGD, FAB, PGD, FastLagrangianPerceptualAttack, SparseAPGD, Square, WorstCase
from gauntlet.data import Batch
from gauntlet.defenses import AdversarialTraining, NormalTraining
from gauntlet.distances import SelfLPIPS
from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite, evaluate, probe
from gauntlet.goals import RankedTargets
from gauntlet.models import (
    Tiled,
    ascent_logits,
    foldable,
    logits_and_surrogate,
    logits_of,
    needs_gradients,
    surrogate_of,
)
from gauntlet.models import classifier as normalised
from gauntlet.scopes import frozen
from gauntlet.threats import L1, L2, Linf, NeuralPerceptual
from tests.acceleration.test_folding import small
from tests.evaluation.tiny import examples
from tests.fixtures import random_images, tapped


class Vote(nn.Module):
    """Counts which class leads at an image and at three darker ones: no gradient, and many ties."""

    def __init__(self):
        super().__init__()
        self.base = tapped(classes=4)
        self.forwards = 0

    def _draws(self, images):
        return torch.stack([self.base(images * share) for share in (1.0, 0.95, 0.9, 0.85)])

    def forward(self, images):
        self.forwards += len(images)
        return nn.functional.one_hot(self._draws(images).argmax(2), 4).float().mean(0)

    def surrogate(self, images):
        return self._draws(images).softmax(2).mean(0).log()


SEARCHES = {
    "pgd": PGD(threat_model=Linf(0.1), steps=10, step_size=0.3),
    "apgd": APGD(threat_model=Linf(0.1), steps=10),
    "ranked": APGD(threat_model=Linf(0.1), steps=5, goal=RankedTargets()),
    "sparse": SparseAPGD(threat_model=L1(8.0), steps=20),
    "fab": FAB(threat_model=L2(1.0), steps=5),
    "square": Square(threat_model=Linf(0.1), queries=50),
    "worst": WorstCase(threat_model=L2(1.0), attacks={"pgd": PGD(threat_model=L2(1.0), steps=10)}),
}


@pytest.mark.parametrize("attack", SEARCHES.values(), ids=SEARCHES)
def test_a_search_climbs_the_surrogate_and_succeeds_by_the_vote(attack):
    vote, images = Vote().eval(), random_images(24, 3, 8, 8, seed=3)
    labels = logits_of(vote, images).argmax(1)
    result = attack(vote, images, labels, seeds=torch.arange(24)).images
    broken = logits_of(vote, result).argmax(1) != labels
    assert broken.any()
    lead = torch.stack([ascent_logits(vote, x).gather(1, labels[:, None])[:, 0] for x in (images, result)])
    assert (lead[1] <= lead[0])[~broken].all()


def test_without_a_surrogate_the_vote_gives_no_gradient():
    class Blind(Vote):
        surrogate = None

    assert surrogate_of(Blind()) is None
    with pytest.raises(ValueError, match="has no gradient"):
        PGD(threat_model=Linf(0.1), steps=1)(Blind(), random_images(2, 3, 8, 8), torch.zeros(2, dtype=torch.long))


def test_an_example_leaves_when_the_vote_and_not_when_the_surrogate_is_wrong():
    class Torn(nn.Module):
        """The surrogate is wrong everywhere, the forward nowhere."""

        def forward(self, images):
            return torch.tensor([[1.0, 0.0]]).repeat(len(images), 1)

        def surrogate(self, images):
            score = images.flatten(1).mean(1)
            return torch.stack((score - 5, 5 - score), 1)

    images = random_images(3, 3, 8, 8)
    torn, labels = Torn(), torch.zeros(3, dtype=torch.long)
    assert logits_and_surrogate(torn, images).logits.argmax(1).tolist() == [0, 0, 0]
    result = PGD(threat_model=Linf(0.1), steps=20)(torn, images, labels)
    assert (result.images - (images - 0.1).clamp(min=0)).abs().max() < 1e-6  # all the way down


def test_a_surrogate_may_be_a_module_and_may_be_wrapped():
    class Hard(nn.Module):
        def __init__(self):
            super().__init__()
            self.surrogate = tapped(classes=4)

        def forward(self, images):
            return nn.functional.one_hot(self.surrogate(images).argmax(1), 4).float()

    images = random_images(3, 3, 8, 8)
    hard = Hard().eval()
    assert ascent_logits(hard, images).equal(hard.surrogate(images))
    assert ascent_logits(Tiled(hard, 2), images).allclose(hard.surrogate(images))
    wrapped = normalised(hard, [0.5] * 3, [0.2] * 3)
    assert ascent_logits(wrapped, images).equal(hard.surrogate((images - 0.5) / 0.2))
    assert surrogate_of(normalised(tapped(), [0.5] * 3, [0.2] * 3)) is None
    assert surrogate_of(Tiled(tapped(), 2)) is None


def test_the_distance_of_a_classifier_with_a_surrogate_is_searched_by_the_surrogate():
    class Tapped(Vote):
        def features(self, images):
            return self.base.features(images)

        def tap(self, images):
            return self.features(images), self(images)

    vote, images = Tapped().eval(), random_images(8, 3, 8, 8)
    labels = logits_of(vote, images).argmax(1)
    attack = FastLagrangianPerceptualAttack(threat_model=NeuralPerceptual(SelfLPIPS(), 0.3), steps=5)
    result = attack(vote, images, labels, seeds=torch.arange(8)).images
    before, after = (ascent_logits(vote, x).gather(1, labels[:, None]) for x in (images, result))
    assert (after <= before).all()
    assert (after < before).any()


def test_a_probe_flags_no_vote_whose_surrogate_is_sound():
    vote, images = Vote().eval(), random_images(12, 3, 8, 8)
    labels = logits_of(vote, images).argmax(1)
    suite = AttackSuite({"linf": PGD(threat_model=Linf(0.05), steps=3)})
    flags = {flag.name: flag for flag in probe(vote, suite, Batch(images, labels, torch.arange(12)))}
    assert flags["logits"].value == 0
    assert flags["gradients"].value == 0
    assert not any("could not be checked" in flag.explanation for flag in flags.values())


def test_the_library_measures_a_vote_by_its_forward():
    vote = Vote().eval()
    split = examples()
    records = evaluate(vote, split, AttackSuite({"linf": PGD(threat_model=Linf(0.1), steps=5, step_size=0.4)}))["linf"]
    batch = split[slice(0, len(split))]
    right = logits_of(vote, batch.images).argmax(1) == batch.labels
    assert records["clean_prediction"].to_list() == logits_of(vote, batch.images).argmax(1).tolist()
    assert records["correct"].sum() < right.sum()


class OneVote(nn.Module):
    """The class in the lead, and nothing about how far it leads: near its boundary folding may tip it."""

    def __init__(self):
        super().__init__()
        self.body = small(torch.float32)

    def forward(self, images):
        return nn.functional.one_hot(self.body(images).argmax(1), 10).float()

    def surrogate(self, images):
        return self.body(images).log_softmax(1)


def test_a_vote_is_counted_unfolded_before_an_example_leaves(monkeypatch):
    network, images = OneVote().eval(), random_images(6, 3, 32, 32)
    second = ascent_logits(network, images).topk(2, 1).indices[:, 1]  # wrong from the start
    with folded(network, images) as folding:
        assert len(folding) > 0
    asked, unfolded = [], Folding.unfolded
    monkeypatch.setattr(Folding, "unfolded", lambda folding: asked.append(folding) or unfolded(folding))
    monkeypatch.setattr(Folding, "low_margin", lambda folding, logits: torch.zeros(len(logits), dtype=torch.bool))
    PGD(threat_model=L2(0.1), steps=1)(network, images, second, seeds=torch.arange(6))
    assert len(asked) == 1


def test_folding_leaves_alone_what_says_so_in_any_part():
    for attribute, value in (("foldable", False), ("needs_gradients", True)):
        network, images = small(), random_images(2, 3, 32, 32).double()
        assert foldable(network)
        with folded(network, images) as folding:
            assert len(folding) > 0
        setattr(network.network, attribute, value)
        assert not foldable(network)
        with folded(network, images) as folding:
            assert len(folding) == 0


class Synthesis(nn.Module):
    """Analysis by synthesis: for every class the latent that explains the image best, found by gradient descent.

    The decoders are linear and orthogonal, so that 25 steps of half the way end at the projection, in closed form.
    """

    needs_gradients = True

    def __init__(self, size=48, classes=3, latents=4):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        bases = [torch.linalg.qr(torch.randn(size, latents, generator=generator))[0] for _ in range(classes)]
        self.decoders = nn.Parameter(torch.stack(bases))

    def forward(self, images):
        points = images.flatten(1) - 0.5
        latents = points.new_zeros(len(points), len(self.decoders), self.decoders.shape[2])
        for _ in range(25):
            with torch.enable_grad():
                latents = latents.detach().requires_grad_()
                (slope,) = torch.autograd.grad(-self._logits(points.detach(), latents).sum(), latents)
            latents = latents.detach() - 0.25 * slope
        return self._logits(points, latents)

    def exact(self, images):
        points = images.flatten(1) - 0.5
        return self._logits(points, torch.einsum("nd,kdl->nkl", points, self.decoders).detach())

    def _logits(self, points, latents):
        made = torch.einsum("nkl,kdl->nkd", latents, self.decoders)
        return -(points[:, None] - made).square().sum(2)


QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}


def synthetic_images(count=16):
    return random_images(count, 3, 4, 4, seed=5)


def test_it_answers_what_is_known_in_closed_form_wherever_it_is_asked():
    model, images = Synthesis().eval(), synthetic_images()
    expected = model.exact(images)
    with torch.no_grad():
        assert model(images).allclose(expected, atol=1e-5)
        logits = logits_of(model, images)
    assert logits.allclose(expected, atol=1e-5)
    assert not logits.requires_grad
    with frozen(model), torch.no_grad():
        assert logits_of(model, images).allclose(expected, atol=1e-5)
    with frozen(model):
        given = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(logits_of(model, given)[:, 0].sum(), given)
        (true,) = torch.autograd.grad(model.exact(given)[:, 0].sum(), given)
        assert gradient.allclose(true, atol=1e-4)


def test_an_answer_made_with_gradients_enabled_has_none_where_the_caller_wants_none():
    class Forgetful(Synthesis):
        def forward(self, images):
            with torch.enable_grad():
                return super().forward(images)

    with torch.no_grad():
        assert not logits_of(Forgetful().eval(), synthetic_images()).requires_grad


def test_inference_mode_is_refused_with_the_way_out():
    with torch.inference_mode(), pytest.raises(UserError, match=r"use torch.no_grad\(\), or Trainer\(inference_mode"):
        logits_of(Synthesis().eval(), synthetic_images())
    assert needs_gradients(nn.Sequential(Synthesis()))
    assert not needs_gradients(tapped())


@pytest.mark.parametrize(
    "attack",
    [
        PGD(threat_model=Linf(0.2), steps=10, step_size=0.3),
        APGD(threat_model=L2(1.0), steps=10),
        SparseAPGD(threat_model=L1(8.0), steps=20),
        FAB(threat_model=L2(1.0), steps=5),
        Square(threat_model=Linf(0.2), queries=60),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_it_is_attacked_like_any_other(attack):
    model, images = Synthesis().eval(), synthetic_images()
    labels = model.exact(images).argmax(1)
    with torch.no_grad():
        result = attack(model, images, labels, seeds=torch.arange(16)).images
    assert (model.exact(result).argmax(1) != labels).any()
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_it_goes_through_the_grid_and_the_probe():
    model = Synthesis(size=90, classes=4).eval()
    suite = AttackSuite({"linf": PGD(threat_model=Linf(0.2), steps=5, step_size=0.4)})
    split = examples()
    records = evaluate(model, split, suite)["linf"]
    batch = split[slice(0, len(split))]
    assert records["clean_prediction"].to_list() == model.exact(batch.images).argmax(1).tolist()
    flags = probe(model, suite, Batch(batch.images, model.exact(batch.images).argmax(1), batch.ids))
    assert {"gradients", "converged"} <= {flag.name for flag in flags}
    assert not any("could not be checked" in flag.explanation for flag in flags)


@pytest.mark.parametrize("adversarial", [False, True])
def test_it_is_trained_and_validated(adversarial, tmp_path):
    model, images = Synthesis(), synthetic_images()
    before = model.decoders.detach().clone()
    labels, ids = torch.arange(16) % 3, torch.arange(16)
    rest = {
        "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        "schedule": lambda optimizer, steps_per_epoch: torch.optim.lr_scheduler.ConstantLR(optimizer),
    }
    if adversarial:
        attack = PGD(threat_model=Linf(0.05), steps=2)
        defense = AdversarialTraining(attack, classifier=model, attack_wrong=True, **rest)
    else:
        defense = NormalTraining(classifier=model, **rest)
    batches = DataLoader([Batch(images, labels, ids)], batch_size=None)
    trainer = Trainer(accelerator="cpu", max_epochs=1, inference_mode=False, default_root_dir=tmp_path, **QUIET)
    trainer.fit(defense, batches, batches)
    assert not model.decoders.equal(before)
    assert model.decoders.isfinite().all()
    with torch.no_grad():
        right = (model.eval()(images).argmax(1) == labels).float().mean()
    assert trainer.callback_metrics["val/accuracy"].item() == pytest.approx(right.item())


def test_lightnings_own_inference_mode_is_refused_in_validation(tmp_path):
    defense = NormalTraining(classifier=Synthesis(), optimizer=torch.optim.SGD, schedule=None)
    batches = DataLoader([Batch(synthetic_images(), torch.arange(16) % 3, torch.arange(16))], batch_size=None)
    with pytest.raises(UserError, match="which inference mode forbids"):
        Trainer(accelerator="cpu", default_root_dir=tmp_path, **QUIET).validate(defense, batches, verbose=False)

"""A threat model that depends on labels, ids and codes is searched, combined and verified row by row."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from gauntlet.attacks import PGD, RandomChoice, WorstCase
from gauntlet.data import Batch, unidentified
from gauntlet.noise import Noise, mix
from gauntlet.threats import AnyOf, Composition, Linf, Region
from tests.fixtures import Counting, random_images

COUNT = 12


def generated(codes):
    """G(code), `[N, 1, 3, 3]` in (0, 1): a pixel per number."""
    return codes.sigmoid().reshape(-1, 1, 3, 3)


def limits(batch, bound):
    """How far each code may go, `[N, 1]`: up for label 0, down for label 1, by a share of the bound, the id's own."""
    share = 0.5 + Noise(mix(batch.ids, 5)).uniform((len(batch.ids), 1)) / 2
    return (1 - 2 * batch.labels[:, None]) * bound * share


@dataclass(frozen=True)
class Latent:
    """All images G(code + v), every number of v between 0 and the limit of the example."""

    bound: float
    name: ClassVar[str] = "latent"
    unit: ClassVar[str] = "code"

    def around(self, batch, classifier=None):
        if batch.codes is None or (batch.ids < 0).any():
            raise ValueError("changes of codes need the ids and the codes of the examples")
        return LatentRegion(batch.images, self.bound, batch)


@dataclass(frozen=True)
class LatentRegion(Region):
    batch: Batch

    def zero(self):
        return torch.zeros_like(self.batch.codes)

    def start(self, noise):
        return noise.uniform(self.batch.codes.shape) * limits(self.batch, self.bound)

    def perturb(self, params):
        return generated(self.batch.codes + params)

    def project(self, params):
        limit = limits(self.batch, self.bound)
        return params.clamp(limit.clamp(max=0), limit.clamp(min=0))

    def ascend(self, params, gradient, step):
        return params + step * self.bound * gradient.sign()

    def size(self, params):
        """Of the example's own limit; infinite where the label forbids the direction."""
        share = params / limits(self.batch, self.bound)
        return torch.where(share < 0, torch.inf, share).amax(1)


class Brightness(nn.Module):
    """Class 1 where the mean pixel is above 1/2."""

    def forward(self, images):
        score = 10 * (images.flatten(1).mean(1) - 0.5)
        return torch.stack((-score, score), 1)


def examples(lead):
    """Codes on the side of their label, so far from the other that a change by `lead` takes the average one there."""
    labels = torch.arange(COUNT) % 2
    codes = (
        0.2 * random_images(COUNT, 9)
        - 0.1
        + (2 * labels[:, None] - 1) * lead * torch.linspace(0.5, 1.5, COUNT)[:, None]
    )
    return Batch(generated(codes), labels, 100 + torch.arange(COUNT) ** 2, codes)


BALL = Latent(0.5)
STEPS = {"step_size": 0.3, "steps": 8}
ATTACKS = {
    "search": PGD(threat_model=BALL, **STEPS),
    "worst case": WorstCase(
        threat_model=BALL,
        attacks={"start": PGD(threat_model=BALL, steps=0), "pgd": PGD(threat_model=BALL, **STEPS)},
    ),
    "random choice": RandomChoice(
        threat_model=BALL,
        attacks={"start": PGD(threat_model=BALL, steps=0), "pgd": PGD(threat_model=BALL, **STEPS)},
    ),
    "composition": PGD(threat_model=Composition([BALL, Linf(0.02)]), **STEPS),
    "union": WorstCase(
        threat_model=AnyOf([Linf(0.02), BALL]),
        attacks={"linf": PGD(threat_model=Linf(0.02), **STEPS), "latent": PGD(threat_model=BALL, **STEPS)},
    ),
}


def test_a_search_reaches_the_optimum_that_label_id_and_code_allow():
    """All numbers of a code at the limit: at a lead of 3 no example is misclassified there, so that none leaves."""
    batch = examples(lead=3.0)
    result = ATTACKS["search"].run(Brightness(), batch, Noise(torch.arange(COUNT)))
    assert result.images.allclose(generated(batch.codes + limits(batch, 0.5)))
    assert result.size.allclose(torch.ones(COUNT))


@pytest.mark.parametrize("name", ATTACKS)
def test_examples_leave_the_search_and_all_are_verified(name):
    """Some succeed early, some late, some never; an example in the row of another would leave its region."""
    attack, batch, noise = ATTACKS[name], examples(lead=0.35), Noise(torch.arange(COUNT))
    classifier = Counting(Brightness())
    result = attack.run(classifier, batch, noise)
    success = Brightness()(result.images).argmax(1) != batch.labels
    assert success.any()
    assert not success.all()
    assert len(set(classifier.batches)) > 2  # sub-batches were made
    verified = attack.verify(Brightness(), batch, result)
    assert verified.inside.all()
    assert verified.size.allclose(result.size)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_example_has_the_same_result_in_any_batch(name):
    attack, batch, noise = ATTACKS[name], examples(lead=0.35), Noise(torch.arange(COUNT))
    result = attack.run(Brightness(), batch, noise)
    for rows in (torch.tensor([5, 2, 11, 0]), torch.tensor([7]), torch.arange(0)):
        some = attack.run(Brightness(), batch.rows(rows), noise.rows(rows))
        assert some.images.allclose(result.images[rows], rtol=0, atol=1e-6)
        assert some.params.allclose(result.params[rows], rtol=0, atol=1e-5)


@pytest.mark.parametrize("column", ["labels", "ids", "codes"])
def test_a_result_of_other_labels_ids_or_codes_is_outside(column):
    attack, batch = ATTACKS["search"], examples(lead=3.0)
    result = attack.run(Brightness(), batch, Noise(torch.arange(COUNT)))
    other = batch._replace(**{column: getattr(batch, column).roll(1, 0)})
    assert not attack.verify(Brightness(), other, result).inside.all()


@pytest.mark.parametrize("keep", [torch.tensor([3, 1]), torch.arange(COUNT) > 6])
@pytest.mark.parametrize("threat", [BALL, Composition([Linf(0.1), BALL]), AnyOf([Linf(0.1), BALL])])
def test_rows_of_a_region_keep_labels_ids_and_codes_in_step(threat, keep):
    batch = examples(lead=1.0)
    region, alone = threat.around(batch).rows(keep), threat.around(batch.rows(keep))
    noise = Noise(torch.arange(COUNT)).rows(keep)
    start = alone.start(noise)
    assert region.start(noise).equal(start)
    assert region.perturb(start).equal(alone.perturb(start))
    assert region.size(start).equal(alone.size(start))
    assert (region.size(start) <= 1).all()


def test_a_batch_of_unknown_examples_has_ids_of_minus_1_and_no_codes():
    batch = unidentified(random_images(2, 1, 3, 3), torch.zeros(2, dtype=torch.long))
    assert batch.ids.tolist() == [-1, -1]
    assert batch.ids.dtype == torch.int64
    assert batch.codes is None


def test_an_attack_called_with_images_and_labels_alone_knows_no_ids_and_no_codes():
    batch = examples(lead=1.0)
    for name in ("search", "worst case"):
        with pytest.raises(ValueError, match="need the ids and the codes"):
            ATTACKS[name](Brightness(), batch.images, batch.labels)

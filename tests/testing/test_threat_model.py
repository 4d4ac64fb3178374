"""`check_threat_model` fails on every promise that a region breaks, and says which."""

from dataclasses import dataclass, replace

import pytest
import torch

from gauntlet.testing import check_threat_model
from gauntlet.threats import Linf
from gauntlet.threats.linf import LinfRegion

BOUND = 0.1


@dataclass(frozen=True)
class Kept(Linf):
    """The L∞ ball with another region: each of these breaks one promise."""

    def around(self, batch, classifier=None):
        region = super().around(batch, classifier)
        return type(self).region(*(getattr(region, name) for name in ("images", "bound", "low", "high")))


def broken(name, **methods):
    """A threat model whose region has other methods."""
    region = dataclass(frozen=True)(type(f"{name}Region", (LinfRegion,), methods))
    return dataclass(frozen=True)(type(name, (Kept,), {"region": region}))(BOUND)


def test_a_region_that_keeps_its_promises_passes():
    check_threat_model(broken("Sound"))


def written(self, params):
    params.clamp_(-self.bound, self.bound)
    return LinfRegion.project(self, params)


def too_far(self, params):
    return (self.images + params.clamp(-2 * self.bound, 2 * self.bound)).clamp(0, 1) - self.images


def makes_nan(self, params):
    return torch.where(params.abs() > 1, torch.nan, LinfRegion.project(self, params))


def of_the_global_generator(self, noise):
    drawn = torch.rand(self.images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return LinfRegion.project(self, drawn * self.bound)


def without_a_graph_in_row_2(self, params):
    third = (torch.arange(len(params)) == 2).view(-1, 1, 1, 1)
    return LinfRegion.perturb(self, torch.where(third, params.detach(), params))


def rows_of_others(self, keep):
    return LinfRegion.rows(replace(self, images=self.images.flip(0)), keep)


def rows_of_another_class(self, keep):
    return LinfRegion(self.images[keep], self.bound, self.low[keep], self.high[keep])


def shared_step(self, params, gradient, step):
    return params + step * gradient.sign() / len(params)


REGIONS = {
    "the image of the zero params is not": {"perturb": lambda self, params: (self.images + params).clamp(0.01, 1)},
    "the zero params have size": {"size": lambda self, params: LinfRegion.size(self, params) + 0.01},
    "the zero params have distance": {"distance": lambda self, params: LinfRegion.distance(self, params) + 1},
    "the zero params have penalty": {"penalty": lambda self, params: params.new_ones(len(params))},
    "distance in torch.float32": {"distance": lambda self, params: LinfRegion.distance(self, params).float()},
    "size of shape": {"size": lambda self, params: LinfRegion.size(self, params)[:, None]},
    "start of torch.float32": {"start": lambda self, noise: LinfRegion.start(self, noise).float()},
    "start \\[6, 108\\] for params": {"start": lambda self, noise: LinfRegion.start(self, noise).flatten(1)},
    "project writes on the caller's params": {"project": written},
    "projected params: pixels from": {"project": lambda self, params: params.clamp(-self.bound, self.bound)},
    "projected params: pixels are NaN": {"project": makes_nan},
    "projected params have size 2": {"project": too_far},
    "projecting again moves params": {"project": lambda self, params: LinfRegion.project(self, params) / 2},
    "changes a linear gain by -": {"ascend": lambda self, params, gradient, step: params - step * gradient.sign()},
    "a step along a gradient of 0": {"ascend": lambda self, params, gradient, step: params + step},
    "images have no graph": {"perturb": lambda self, params: LinfRegion.perturb(self, params).detach()},
    "the gradient of row 2 is 0": {"perturb": without_a_graph_in_row_2},
    "ascend of a region in another batch": {"ascend": shared_step},
    "perturb of rows of a region": {"rows": rows_of_others},
    "rows of a region are a LinfRegion": {"rows": rows_of_another_class},
    "the start of an example depends on its batch": {"start": of_the_global_generator},
    "a distance depends on the bound": {"distance": lambda self, params: LinfRegion.size(self, params).double()},
}


@pytest.mark.parametrize(("sentence", "methods"), REGIONS.items(), ids=REGIONS)
def test_a_region_that_breaks_a_promise_is_named_with_it(sentence, methods):
    with pytest.raises(AssertionError, match=sentence):
        check_threat_model(broken("Broken", **methods))


def writes(self, batch, classifier=None):
    batch.images.clamp_(0.1, 0.9)
    return Linf.around(self, batch, classifier)


def changed_by_nothing(self, batch, classifier=None):
    region = Linf.around(self, batch, classifier)
    return replace(region, low=(region.low - 0.01).clamp(0, 1)) if not self.bound else region


THREAT_MODELS = {
    "name is ''": {"name": ""},
    "unit is empty": {"unit": ""},
    "writes on the caller's images": {"around": writes},
    "the region's bound is 0.2": {"around": lambda self, batch, classifier=None: Linf.around(Linf(0.2), batch)},
    "gives a Tensor": {"around": lambda self, batch, classifier=None: batch.images},
    "at a bound of 0 images change": {"around": changed_by_nothing},
}


@pytest.mark.parametrize(("sentence", "changes"), THREAT_MODELS.items(), ids=THREAT_MODELS)
def test_a_threat_model_that_breaks_a_promise_is_named_with_it(sentence, changes):
    with pytest.raises(AssertionError, match=sentence):
        check_threat_model(dataclass(frozen=True)(type("Broken", (Linf,), changes))(BOUND))


class Loose(Linf):
    """Fields of its own would be no part of its identity."""


class NoThreatModel:
    """Nothing that a threat model has."""


@pytest.mark.parametrize(
    ("thing", "sentence"),
    [(Loose(0.1), "Loose is no dataclass itself"), (NoThreatModel(), "cannot be searched|no threat")],
)
def test_what_is_no_threat_model_is_refused(thing, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_threat_model(thing)


def test_images_of_float32_and_another_classifier_will_do():
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    check_threat_model(Linf(8 / 255), classifier=classifier, images=images)

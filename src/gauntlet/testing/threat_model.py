"""The contract of threat models that can be searched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.testing.examples import predicted_batch, small_classifier, some_images
from gauntlet.testing.expectations import (
    expect,
    expect_alike,
    expect_identity,
    expect_images,
    expect_unchanged,
    first_row,
    is_frozen,
    name_of,
    tolerance_of,
)
from gauntlet.threats import Region, SearchableThreatModel
from gauntlet.tolerance import TOLERANCE
from gauntlet.varied import BOUND, altered

_SCALES = (1e-3, 1.0, 100.0)  # of random params, as multiples of their extent


def check_threat_model(
    threat_model: SearchableThreatModel,
    *,
    classifier: nn.Module | None = None,
    images: Tensor | None = None,
    zero_image: Callable[[Tensor], Tensor] | None = None,
    resolution: float = 1e-9,
) -> None:
    """Check every property that searches and the evaluation rely on.

    Args:
        threat_model: with a bound above 0, or of 0.
        classifier: the argument of `around`; None for a small tapped one.
        images: `[N, C, H, W]` with N ≥ 2; None for six of `[3, 6, 6]` in float64, with black and white pixels.
        zero_image: computes the documented image of the zero params from images; None if it is the image itself.
        resolution: the largest change of params already inside by a projection, as a share of the largest one; above
            0 if the projection is an iterative search.

    Raises:
        AssertionError: a property does not hold; the message names it and the deviation.
    """
    classifier = classifier or small_classifier()
    images = some_images(low=-0.2, high=1.2) if images is None else images
    batch = predicted_batch(classifier, images)
    _check_declaration(threat_model)
    with expect_unchanged(name_of(threat_model), images=batch.images, labels=batch.labels, ids=batch.ids):
        check = _Check(threat_model, classifier, batch)
        check.zero(zero_image)
        check.inside()
        check.projection(resolution)
        check.ascent()
        check.gradients()
        check.rows()
        check.batches()
        check.other_bounds()
        if zero_image is None:
            check.nothing_allowed()


def _check_declaration(threat_model: SearchableThreatModel) -> None:
    kind = name_of(threat_model)
    expect(
        isinstance(threat_model, SearchableThreatModel),
        f"{kind} is no threat model that can be searched: it needs a name, a bound, a unit and around()",
    )
    expect_identity(threat_model)
    expect(
        isinstance(threat_model.name, str) and threat_model.name != "", f"{kind}.name is {threat_model.name!r}: a word"
    )
    expect(isinstance(threat_model.unit, str), f"{kind}.unit is {threat_model.unit!r}: expected a string")
    known = threat_model.unit != "" or not threat_model.bound
    expect(known, f"{kind}.unit is empty: say what the bound is measured in")
    expect(threat_model.bound >= 0, f"{kind}.bound is {threat_model.bound}: expected a number ≥ 0")


class _Check:
    """The checks of one threat model around one batch."""

    def __init__(self, threat_model: SearchableThreatModel, classifier: nn.Module, batch: Batch) -> None:
        self.threat_model, self.classifier, self.batch = threat_model, classifier, batch
        self.kind, self.tolerance = name_of(threat_model), tolerance_of(batch.images)
        self.noise = Noise(batch.ids)
        self.region = self.around(batch)

    def around(self, batch: Batch) -> Region:
        region = self.threat_model.around(batch, self.classifier)
        expect(isinstance(region, Region), f"{self.kind}.around gives a {name_of(region)}: expected a Region")
        expect(is_frozen(region), f"{name_of(region)} is no frozen dataclass: write @dataclass(frozen=True)")
        expect(
            region.bound == self.threat_model.bound,
            f"the region's bound is {region.bound}, {self.kind}'s {self.threat_model.bound}: expected the same",
        )
        return region

    def random_params(self, scale: float, seed: int = 0) -> Tensor:
        """Random params, `[N, …]`: normal numbers times the scale and the extent of the params."""
        zero = self.region.zero()
        drawn = torch.randn(zero.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        extent = torch.as_tensor(self.region.extent(zero), dtype=zero.dtype)
        return scale * drawn.to(zero) * torch.where(extent > 0, extent, 1)

    def unprojected_params(self) -> Iterator[Tensor]:
        """Params for `project`: the start, and random params of several scales."""
        yield self.region.start(self.noise)
        for seed, scale in enumerate(_SCALES):
            yield self.random_params(scale, seed)

    def zero(self, zero_image: Callable[[Tensor], Tensor] | None) -> None:
        """Zero params give x, or the documented image, and have size 0."""
        zero, images = self.region.zero(), self.batch.images
        expect(len(zero) == len(images), f"{self.kind}: {len(zero)} zero params for {len(images)} images")
        expect(zero.dtype == images.dtype, f"{self.kind}: zero params of {zero.dtype} for images of {images.dtype}")
        perturbed = self.region.perturb(zero)
        if zero_image is None:
            expect_alike(perturbed, images, 0.0, f"{self.kind}: the image of the zero params is not the image")
        else:
            expect_alike(perturbed, zero_image(images), 1e-5, f"{self.kind}: the image of the zero params")
        for what in ("size", "distance", "penalty"):
            value = getattr(self.region, what)(zero)
            expect(value.shape == (len(zero),), f"{self.kind}: {what} of shape {list(value.shape)}, expected [N]")
            expect(not value.any(), f"{self.kind}: the zero params have {what} {value.abs().max().item():.3g}, not 0")
        precision = self.region.distance(zero).dtype
        expect(precision == torch.float64, f"{self.kind}: distance in {precision}, expected float64")

    def inside(self) -> None:
        """Projected params are in the threat model."""
        zero = self.region.zero()
        start = self.region.start(self.noise)
        expect(start.shape == zero.shape, f"{self.kind}: start {list(start.shape)} for params {list(zero.shape)}")
        expect(start.dtype == zero.dtype, f"{self.kind}: start of {start.dtype} for params of {zero.dtype}")
        for unprojected in self.unprojected_params():
            with expect_unchanged(f"{self.kind}.project", params=unprojected):
                params = self.region.project(unprojected)
            self._expect_inside(params, "projected params")

    def _expect_inside(self, params: Tensor, what: str) -> None:
        zero = self.region.zero()
        expect(params.shape == zero.shape, f"{self.kind}: {what} are {list(params.shape)}, not {list(zero.shape)}")
        expect(params.dtype == zero.dtype, f"{self.kind}: {what} are {params.dtype}, not {zero.dtype}")
        with torch.no_grad():
            expect_images(self.region.perturb(params), self.batch.images, f"{self.kind}: {what}")
        size = self.region.size(params)
        expect(size.shape == (len(params),), f"{self.kind}: size of shape {list(size.shape)}, expected [N]")
        worst = size.max().item()
        expect(
            bool((size <= 1 + TOLERANCE).all()), f"{self.kind}: {what} have size {worst:.6g} of the bound, expected ≤ 1"
        )
        expect(bool((size >= 0).all()), f"{self.kind}: {what} have size {size.min().item():.3g}, expected ≥ 0")

    def projection(self, resolution: float) -> None:
        """Params inside are not changed by a projection."""
        for unprojected in self.unprojected_params():
            once = self.region.project(unprojected)
            twice = self.region.project(once)
            moved = (twice - once).abs().max().item()
            allowed = max(resolution, self.tolerance) * max(1.0, once.abs().max().item())
            expect(
                moved <= allowed,
                f"{self.kind}: projecting again moves params by {moved:.3g}, expected at most {allowed:.1e}",
            )

    def ascent(self) -> None:
        """Steps do not decrease a linear gain, and without a gradient do not change params."""
        params, gradient = self.region.project(self.random_params(1.0)), self.random_params(1.0, seed=9)
        with expect_unchanged(f"{self.kind}.ascend", params=params, gradient=gradient):
            moved = self.region.ascend(params, gradient, 0.1)
        expect(moved.shape == params.shape, f"{self.kind}: a step makes {list(moved.shape)} of {list(params.shape)}")
        gained = ((moved - params) * gradient).flatten(1).sum(1)
        expect(
            bool((gained >= -self.tolerance).all()),
            f"{self.kind}: a step along the gradient changes a linear gain by {gained.min().item():.3g}, expected ≥ 0",
        )
        self._expect_inside(self.region.project(moved), "params after a step and a projection")
        still = self.region.ascend(params, torch.zeros_like(params), 0.1)
        expect_alike(still, params, 1e-6, f"{self.kind}: a step along a gradient of 0")

    def gradients(self) -> None:
        """Images are differentiable in the params, with finite gradients other than 0."""
        params = self.region.project(self.random_params(0.1)).detach()
        inner = (0.5 * params + 0.5 * self.region.zero()).requires_grad_()
        images = self.region.perturb(inner)
        if not images.requires_grad and not self.threat_model.bound:
            return  # nothing can be chosen
        expect(images.requires_grad, f"{self.kind}: images have no graph to their params: no gradient can be had")
        (gradient,) = torch.autograd.grad(images.sum(), inner)
        expect(gradient.isfinite().all(), f"{self.kind}: the gradient of the images in the params is not finite")
        if self.threat_model.bound:
            reached = gradient.flatten(1).any(1)
            expect(reached.all(), f"{self.kind}: the gradient of row {first_row(~reached)} is 0")

    def rows(self) -> None:
        """The rows of a region equal the region of the rows."""
        count = len(self.batch.images)
        params = self.region.project(self.random_params(1.0))
        for keep in (torch.arange(count) % 2 == 0, torch.arange(count).flip(0)[:2], torch.zeros(count) > 0):
            some = self.region.rows(keep)
            expect(type(some) is type(self.region), f"{self.kind}: rows of a region are a {name_of(some)}")
            expected = _outputs(self.around(self.batch.rows(keep)), params[keep])
            self._expect_same(_outputs(some, params[keep]), expected, "rows of a region")

    def batches(self) -> None:
        """Examples are independent: the results are the same in another order, and alone."""
        count = len(self.batch.images)
        params = self.region.project(self.random_params(1.0))
        whole, start = _outputs(self.region, params), self.region.start(self.noise)
        for order in (torch.arange(count).flip(0), torch.tensor([count - 1])):
            other = self.around(self.batch.rows(order))
            expected = {name: output[order] for name, output in whole.items()}
            self._expect_same(_outputs(other, params[order]), expected, "a region in another batch")
            what = f"{self.kind}: the start of an example depends on its batch; draw it from the noise"
            expect_alike(other.start(self.noise.rows(order)), start[order], self.tolerance, what)

    def _expect_same(self, actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
        for name, output in expected.items():
            expect_alike(actual[name], output, self.tolerance, f"{self.kind}: {name} of {what} is another")

    def other_bounds(self) -> None:
        """A distance does not depend on the bound."""
        bound, params = self.threat_model.bound, self.region.project(self.random_params(0.3))
        half = self._at_share(0.5)
        if half is None or not bound or half.bound != bound / 2 or half.zero().shape != params.shape:
            return
        distance = self.region.distance(params)
        what = f"{self.kind}: a distance depends on the bound; override Region.distance"
        expect_alike(half.distance(params), distance, 1e-6 * max(1.0, distance.max().item()), what)

    def nothing_allowed(self) -> None:
        """At a bound of 0 every perturbed image is x."""
        region = self._at_share(0.0)
        if region is not None and region.bound == 0 and region.zero().shape == self.region.zero().shape:
            for params in (region.start(self.noise), self.random_params(1.0)):
                perturbed = region.perturb(region.project(params))
                expect_alike(perturbed, self.batch.images, 0.0, f"{self.kind}: at a bound of 0 images change")

    def _at_share(self, share: float) -> Region | None:
        """The region at a share of all bounds; None if the threat model does not allow that."""
        try:
            other: SearchableThreatModel = altered(self.threat_model, BOUND, lambda value: share * value)
            return other.around(self.batch, self.classifier)
        except ValueError:
            return None


def _outputs(region: Region, params: Tensor) -> dict[str, Tensor]:
    """The outputs of a region for params, by the name of the method, `[N, …]`."""
    return {
        "zero": region.zero(),
        "perturb": region.perturb(params),
        "project": region.project(1.5 * params),
        "ascend": region.ascend(params, torch.ones_like(params), 0.1),
        "size": region.size(params),
        "distance": region.distance(params),
        "penalty": region.penalty(params),
    }

"""What the tests of all eight share: the contract, monotone bounds, projections and gradients."""

from dataclasses import replace

import torch

from gauntlet.noise import Noise
from gauntlet.testing import check_threat_model
from gauntlet.threats.drawn import DrawnRegion
from tests.fixtures import batch_of, random_images, tapped

DOUBLE = torch.float64


def shown(threat, images, params):
    """The images of params."""
    return threat.around(batch_of(images)).perturb(params)


def wild(region, scale=2.0, seed=0):
    """Params around zero, `scale` times as far as they extend; those of a drawn region with a draw of their own."""
    zero = region.zero()
    drawn = torch.randn(zero.shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(zero)
    params = scale * drawn * torch.as_tensor(region.extent(zero), dtype=zero.dtype)
    if isinstance(region, DrawnRegion):
        numbers = 1000 * seed + torch.arange(len(params) * region.num_materials)
        params[:, : region.num_materials] = numbers.reshape(len(params), -1)
    return params


def check(threat, zero_image=None, channels=(1, 3)):
    """The contract of threat models, for gray and colour images; and the three properties below."""
    for count in channels:
        images = (random_images(4, count, 7, 6, dtype=DOUBLE) * 1.4 - 0.2).clamp(0, 1)
        check_threat_model(threat, classifier=tapped(count, dtype=DOUBLE), images=images, zero_image=zero_image)
    check_bounds_are_monotone(threat)
    check_projection(threat)
    check_gradients(threat)


def check_bounds_are_monotone(threat):
    """What is inside a bound is inside a larger one, as the same image; the distance is the same."""
    images = random_images(3, 3, 9, 8)
    region = threat.around(batch_of(images))
    params = region.project(wild(region))
    for factor in (1.0, 1.5, 4.0):
        wider = replace(threat, bound=factor * threat.bound).around(batch_of(images))
        assert wider.project(params).allclose(params, rtol=1e-6, atol=1e-7)
        assert wider.perturb(params).equal(region.perturb(params))
        assert wider.size(params).allclose(region.size(params) / factor)
        assert wider.distance(params).equal(region.distance(params))


def check_projection(threat):
    """Projected params are on or in the bound, and a second projection changes nothing."""
    region = threat.around(batch_of(random_images(3, 3, 9, 8, dtype=DOUBLE)))
    for scale in (0.1, 2.0, 50.0):
        once = region.project(wild(region, scale))
        assert (region.size(once) <= 1 + 1e-12).all()
        assert region.project(once).allclose(once, rtol=1e-12, atol=0)
    start = region.start(Noise(torch.arange(3)))
    assert region.project(start).allclose(start, rtol=1e-12, atol=0)


def check_gradients(threat):
    """By finite differences in float64, on images and at params where nothing is clamped."""
    region = threat.around(batch_of(0.4 + 0.1 * random_images(2, 3, 4, 5, dtype=DOUBLE)))
    params = region.project(wild(region, 0.1))
    assert torch.autograd.gradcheck(region.perturb, params.requires_grad_())

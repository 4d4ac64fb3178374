"""Kaleidoscope of ImageNet-UA beside shapes drawn one by one over whole images."""

import colorsys
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from gauntlet.noise import Noise
from gauntlet.threats import UAKaleidoscope
from gauntlet.threats.imagenet_ua.kaleidoscope import rgb_of_hsv
from tests.fixtures import batch_of, photographs, random_images
from tests.networks import cifar10
from tests.threats.imagenet_ua.checks import DOUBLE, check, wild

CIFAR, IMAGENET = UAKaleidoscope(0.1, 5, 4, 0.2), UAKaleidoscope(0.1, 40, 15, 0.1)


def faces(threat, height, width, drawn):
    """The pixels of each shape of one image, `[shapes, H, W]` booleans, from its corners."""
    u = [drawn.uniform((1, threat.shapes, 1, 1), draw=i).flatten().double().numpy() for i in range(4)]
    rows, columns = np.mgrid[:height, :width].astype(float)
    masks = []
    for i in range(threat.shapes):
        middle = height * u[0][i] - 0.5, width * u[1][i] - 0.5
        y, x = rows - middle[0], columns - middle[1]
        sides = [0, 3, 4][int(3 * u[2][i])]
        if not sides:
            masks.append(x**2 + y**2 <= (threat.size / 2) ** 2)
            continue
        edge = int(1.732 * threat.size) if sides == 3 else threat.size
        # the corners are opposite to the middles of the sides, or between them
        turned = 2 * math.pi * u[3][i] + math.pi / sides + 2 * math.pi * np.arange(sides) / sides
        corners = edge / (2 * math.sin(math.pi / sides)) * np.stack((np.cos(turned), np.sin(turned)), 1)
        inside = np.ones_like(x, dtype=bool)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
            inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= -1e-4
        masks.append(inside)
    return np.stack(masks)


def reference(threat, image, colour_changes, edges, drawn):
    """x under the sum of the shapes' colours; (dilation minus shape) of each is |edge|."""
    masks = faces(threat, *image.shape[1:], drawn)
    lows = (0.0, threat.min_saturation, threat.min_value)
    hsv = [drawn.uniform((1, threat.shapes), low, 1, draw=4 + i)[0].tolist() for i, low in enumerate(lows)]
    changed = image * np.where(masks.any(0), threat.transparency, 1)
    for mask, change, *colour in zip(masks, colour_changes, *hsv, strict=True):
        changed = changed + mask * (np.array(colorsys.hsv_to_rgb(*colour)) + change)[:, None, None]
    border = np.zeros(masks.shape[1:], dtype=bool)
    for mask in masks:
        border |= ndimage.binary_dilation(mask, np.ones((threat.edge,) * 2)) & ~mask
    return np.where(border, np.abs(edges), changed).clip(0, 1)


@pytest.mark.parametrize("threat", [CIFAR, IMAGENET])
def test_a_photograph_has_the_shapes_one_by_one(threat):
    images = (photographs(2, 224) if threat is IMAGENET else cifar10(2)[0]).to(DOUBLE)
    region = threat.around(batch_of(images))
    params = region.project(wild(region, 0.5, seed=3))
    changes = params[:, 1 : 1 + 3 * threat.shapes].reshape(2, -1, 3).numpy()
    edges = params[:, 1 + 3 * threat.shapes :].reshape(2, *images.shape[2:]).numpy()
    ours = region.perturb(params).numpy()
    for i in range(2):
        drawn = Noise(params[i : i + 1, 0].long())
        theirs = reference(threat, images[i].numpy(), changes[i], edges[i], drawn)
        outline = np.abs(ours[i] - theirs).max(0) > 1e-5
        assert outline.sum() <= 2  # a corner of a polygon on the centre of a pixel
    assert 0.1 < (ours != images.numpy()).any(1).mean() < 0.9


def test_it_keeps_its_promises():
    threat = UAKaleidoscope(0.1, 2, 3, 0.2, edge=3)

    def zero_image(images):
        unchanged = np.zeros((2, 3)), np.zeros(images.shape[2:]), Noise(torch.zeros(1, dtype=torch.long))
        return torch.from_numpy(np.stack([reference(threat, image.numpy(), *unchanged) for image in images]))

    check(threat, zero_image=zero_image, channels=(3,))


def test_gray_images_have_gray_shapes():
    images = random_images(1, 1, 32, 32)
    colour = images.expand(-1, 3, -1, -1)
    ours, colourful = (CIFAR.around(batch_of(each)) for each in (images, colour))
    ours, colourful = ours.perturb(ours.zero()), colourful.perturb(colourful.zero())
    luma = torch.tensordot(colourful, torch.tensor([0.2126, 0.7152, 0.0722]), ([1], [0]))[:, None]
    assert (ours - luma)[(colourful < 1).all(1, keepdim=True)].abs().max() < 1e-5
    assert (ours != images).double().mean() > 0.1


def test_colours_are_those_of_colorsys():
    h, s, v = torch.rand(3, 50, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    expected = [colorsys.hsv_to_rgb(*colour) for colour in zip(h.tolist(), s.tolist(), v.tolist(), strict=True)]
    assert rgb_of_hsv(h, s, v).allclose(torch.tensor(expected, dtype=DOUBLE))


def test_shapes_and_colours_are_drawn_for_each_start():
    images = random_images(1, 3, 32, 32).expand(40, -1, -1, -1)
    region = CIFAR.around(batch_of(images))
    start = region.start(Noise(torch.arange(40)))
    shown = region.perturb(start)
    assert len({image.numpy().tobytes() for image in shown}) == 40
    covered = (shown != images).any(1).double().mean(0)
    assert covered.min() > 0.02  # centres are anywhere: no pixel is spared


def test_a_search_does_not_change_the_draw():
    region = CIFAR.around(batch_of(random_images(3, 3, 32, 32)))
    start = region.start(Noise(torch.arange(3)))
    moved = region.project(region.ascend(start, torch.randn_like(start), 0.5))
    assert moved[:, 0].equal(start[:, 0])
    assert not moved[:, 1:].equal(start[:, 1:])
    assert not region.extent(start)[:, 0].any()


def test_an_even_edge_is_refused():
    with pytest.raises(ValueError, match="edge 0: expected a positive number"):
        UAKaleidoscope(0.1, 5, 4, 0.2, edge=4)

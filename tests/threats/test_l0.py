"""L0: a number of pixels may change; the rest is shared with `ChangedPixels`."""

import pytest

from gauntlet.threats import L0, ChangedPixels
from tests.fixtures import batch_of, random_images


@pytest.mark.parametrize("count", [0, 1, 5, 12])
def test_it_is_the_set_of_the_same_share_of_pixels(count):
    images, requested = random_images(4, 3, 4, 3), random_images(4, 3, 4, 3, seed=1) - 0.5
    pixels, share = L0(count).around(batch_of(images)), ChangedPixels(count / 12).around(batch_of(images))
    inside = pixels.project(requested)
    assert inside.equal(share.project(requested))
    assert pixels.distance(inside).equal((inside != 0).any(1).flatten(1).sum(1).double())
    assert pixels.size(requested).equal(share.size(requested))


def test_half_a_pixel_more_allows_none_more():
    assert L0(2.5).around(batch_of(random_images(1, 3, 4, 3))).count == 2


@pytest.mark.parametrize("bound", [-1, 0.02, float("nan")])
def test_a_bound_that_is_no_number_of_pixels_says_what_to_write(bound):
    with pytest.raises(ValueError, match=r"expected a number of pixels, such as 12, or 0; for a share"):
        L0(bound)


def test_more_pixels_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"13 is more pixels than \(3, 4, 3\) images have"):
        L0(13).around(batch_of(random_images(1, 3, 4, 3)))

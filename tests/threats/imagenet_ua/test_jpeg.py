"""JPEG of ImageNet-UA beside scipy's transform of the blocks of YCbCr."""

import numpy as np
import pytest
import torch
from scipy import fft

from gauntlet.threats import UAJPEG
from tests.fixtures import batch_of, photographs
from tests.threats.imagenet_ua.checks import DOUBLE, check, shown, wild

JPEG = UAJPEG(3 / 255)


def reference(image, change):
    """255x to JFIF's YCbCr, the DCT of 8×8 blocks of c − 128, 255 times the change added, and back."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    planes = np.einsum("ij,jhw->ihw", matrix, 255 * image) + np.array([0, 128, 128])[:, None, None]
    changes = change.reshape(3, image.shape[1] // 8, image.shape[2] // 8, 8, 8)
    for c, i, j in np.ndindex(*changes.shape[:3]):
        block = np.s_[c, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8]
        planes[block] = fft.idctn(fft.dctn(planes[block] - 128, norm="ortho") + 255 * changes[c, i, j], norm="ortho")
        planes[block] += 128
    y, blue, red = planes[0], planes[1] - 128, planes[2] - 128
    rgb = np.stack((y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue))
    return (rgb / 255).clip(0, 1)


def test_it_keeps_its_promises():
    check(JPEG)


def test_a_photograph_changes_as_by_an_independent_transform():
    images = photographs(1, 224).to(DOUBLE)
    params = JPEG.around(batch_of(images)).project(wild(JPEG.around(batch_of(images))))
    ours = shown(JPEG, images, params)[0].numpy()
    np.testing.assert_allclose(ours, reference(images[0].numpy(), params[0].numpy()), atol=1e-5)
    assert np.abs(ours - images[0].numpy()).mean() > 2 / 255


@pytest.mark.parametrize("size", [224, 30])
def test_without_a_change_a_photograph_is_itself(size):
    images = photographs(1, size)
    assert shown(JPEG, images, JPEG.around(batch_of(images)).zero()).equal(images)


def test_a_unit_of_a_file_is_one_255th():
    """One step of every pixel's gray is 8 units of the constant coefficient of its block."""
    images = torch.full((1, 1, 8, 8), 0.5, dtype=DOUBLE)
    params = torch.zeros(1, 1, 64, dtype=DOUBLE)
    params[..., 0] = 8 / 255
    assert shown(JPEG, images, params).allclose(images + 1 / 255)


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"1 channel \(gray\) or 3 \(RGB\), not 2"):
        JPEG.around(batch_of(torch.zeros(1, 2, 8, 8)))
    with pytest.raises(ValueError, match="write 3/255"):
        UAJPEG(-1.0)

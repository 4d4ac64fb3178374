"""The calibrated LPIPS: a reason where it cannot be measured, torchmetrics' number where it can."""

import pytest
import torch
import torchvision.models

from gauntlet.distances.calibrated import CalibratedLPIPS
from tests.fixtures import imagenet_alexnet_features, photographs


@pytest.fixture
def hub(tmp_path):
    """An empty torch hub folder."""
    found = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    yield tmp_path
    torch.hub.set_dir(found)


def test_absent_weights_are_a_reason(hub):
    assert "not in torch's hub folder" in CalibratedLPIPS().missing((64, 64))
    assert list(hub.iterdir()) == []


@pytest.mark.parametrize("size", [(30, 64), (64, 30), (8, 8)])
def test_small_images_are_a_reason(hub, size):
    assert "smaller than its network's 31×31" in CalibratedLPIPS().missing(size)


def test_its_value_is_that_of_torchmetrics(hub):
    """On ImageNet's AlexNet; the head, which LPIPS does not use, is zeros that take no space in the file."""
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

    with torch.device("meta"):
        shapes = torchvision.models.alexnet().state_dict()
    state = {name: torch.zeros(1).expand(tensor.shape) for name, tensor in shapes.items()} | imagenet_alexnet_features()
    (hub / "checkpoints").mkdir()
    torch.save(state, hub / "checkpoints" / "alexnet-owt-7be5be79.pth")
    images = photographs(3, 64)
    others = images.roll(1, 0)

    calibrated = CalibratedLPIPS()
    assert calibrated.missing((64, 64)) is None
    expected = [
        learned_perceptual_image_patch_similarity(images[i : i + 1], others[i : i + 1], net_type="alex", normalize=True)
        for i in range(3)
    ]
    assert calibrated(images, others).allclose(torch.stack(expected), rtol=1e-4)
    assert calibrated(images, images).tolist() == [0, 0, 0]
    assert calibrated(images[:1], others[:1]).shape == (1,)

"""The calibrated LPIPS: a reason where it cannot be measured, torchmetrics' number where it can."""

import pytest
import torch
import torchvision.models

from gauntlet.distances.calibrated import CalibratedLPIPS
from gauntlet.errors import UserError
from tests.fixtures import imagenet_alexnet_features, photographs, shared_data


@pytest.fixture
def hub(tmp_path):
    """An empty torch hub folder."""
    result = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    yield tmp_path
    torch.hub.set_dir(result)


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


def test_a_file_of_ones_own_gives_the_published_numbers_of_the_lpips_package(hub):
    """The package's own call on torchvision's weights, from NumPy's file of the features alone; to 1e-5."""
    import lpips

    file = shared_data("weights", "lpips", "alexnet_features_torchvision_v1.npz")
    calibrated, images = CalibratedLPIPS(file), photographs(3, 96)
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    for part in theirs.net.children():
        part.load_state_dict({name: imagenet_alexnet_features()[f"features.{name}"] for name in part.state_dict()})
    assert calibrated.missing((96, 96)) is None
    with torch.no_grad():
        expected = theirs(2 * images - 1, 2 * images.roll(1, 0) - 1).flatten()
    assert (calibrated(images, images.roll(1, 0)) - expected).abs().max() < 1e-5
    assert not list(hub.iterdir())


def test_a_file_that_is_not_there_is_a_reason_and_one_of_another_network_is_a_line(tmp_path):
    assert "mine.npz is not in" in CalibratedLPIPS(tmp_path / "mine.npz").missing((64, 64))
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"is not a torchvision AlexNet: it has no features.0.bias"):
        CalibratedLPIPS(tmp_path / "other.pth")(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))

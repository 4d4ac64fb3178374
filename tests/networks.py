"""Real networks with real weights, and real images for them: CIFAR-10 ResNet-32, and ImageNet's AlexNet for φ."""

import io
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gauntlet.distances import LPIPS
from gauntlet.models import imagenet_features, with_weights
from gauntlet.models import resnet32 as architecture
from gauntlet.models.convert import convert
from tests.fixtures import shared_data

CHECKPOINTS = ("normal", "delta", "recoloradv_stadv_delta")
ALEXNET_TAPS = [f"features.{index}" for index in (1, 4, 7, 9, 11)]


def resnet32(name, dtype=torch.float32):
    """`normal`, `delta` or `recoloradv_stadv_delta` of the ReColorAdv authors, in eval mode."""
    with tempfile.TemporaryDirectory() as folder:
        ours = Path(folder) / "ours.safetensors"
        foreign = shared_data("weights", "cifar10_resnet32", f"{name}.resnet32.pt")
        convert(foreign, "resnet32", {"classes": 10}, None, [], ours)
        return with_weights(architecture(10), ours).to(dtype).eval()


def alexnet_distance():
    """The perceptual distance of ImageNet's AlexNet."""
    weights = shared_data("weights", "lpips", "alexnet_features_torchvision_v1.npz")
    return LPIPS(imagenet_features("alexnet", ALEXNET_TAPS, weights))


def cifar10(count, dtype=torch.float32):
    """The first of the small sheet of CIFAR-10 test images, `[count, 3, 32, 32]` in [0, 1], and their labels."""
    images = _tiles(shared_data("cifar10", "mini", "test.webp"), count)
    with np.load(shared_data("cifar10", "mini", "labels.npz")) as arrays:
        labels = torch.from_numpy(arrays["test"][:count].astype(np.int64))
    return images.to(dtype).div(255), labels


def cifar10_test(count):
    """The first CIFAR-10 test images in their own order, `[count, 3, 32, 32]` in [0, 1], and their labels."""
    with tarfile.open(shared_data("cifar10", "cifar10_30k_webp.tar")) as archive:
        files = {member.name.rsplit("/", 1)[-1]: member for member in archive if member.isfile()}
        sheet, labels = (io.BytesIO(archive.extractfile(files[n]).read()) for n in ("test_batch.webp", "labels.npz"))
    with np.load(labels) as arrays:
        classes = torch.from_numpy(arrays["test"][:count].astype(np.int64))
    return _tiles(sheet, count).float().div(255), classes


def _tiles(sheet, count):
    """The first 32×32 pictures of a sheet that is 20 wide, as bytes."""
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    tiles = pixels.reshape(pixels.shape[0] // 32, 32, 20, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
    return torch.from_numpy(tiles[:count].copy())

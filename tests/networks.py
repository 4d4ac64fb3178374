"""Real networks with real weights, for tests of attacks: CIFAR-10 ResNet-32 and ImageNet's AlexNet; and real images."""

import io
import tarfile

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from gauntlet.distances import LPIPS
from gauntlet.models import Normalise, alexnet
from tests.fixtures import imagenet_alexnet_features, shared_data


class OptionABlock(nn.Module):
    """Two 3×3 convolutions; a shortcut that strides and pads channels with zeros (He et al. 2016, §4.2, option A)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.padding = stride, (outputs - inputs) // 2

    def forward(self, maps):
        shortcut = F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps))))) + shortcut)


class ResNet32(nn.Module):
    """He et al. 2016, §4.2, n = 5; ImageNet's mean and standard deviation inside."""

    def __init__(self):
        super().__init__()
        self.normalise = Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = self.layer(16, 16, 1), self.layer(16, 32, 2), self.layer(32, 64, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def layer(inputs, outputs, stride):
        return nn.Sequential(
            OptionABlock(inputs, outputs, stride), *(OptionABlock(outputs, outputs, 1) for _ in range(4))
        )

    def forward(self, images):
        maps = F.relu(self.bn1(self.conv1(self.normalise(images))))
        return self.linear(self.layer3(self.layer2(self.layer1(maps))).mean((2, 3)))


def resnet32(name):
    """`normal`, `delta` or `recoloradv_stadv_delta` of the ReColorAdv authors, in eval mode."""
    file = torch.load(shared_data("weights", "cifar10_resnet32", f"{name}.resnet32.pt"), "cpu", weights_only=True)
    tensors = {key.removeprefix("module."): value for key, value in file.get("state_dict", file).items()}
    network = ResNet32()
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all(name.startswith("normalise") or name.endswith("num_batches_tracked") for name in missing)
    return network.eval()


def alexnet_distance():
    """The perceptual distance of ImageNet's AlexNet."""
    weights, network = imagenet_alexnet_features(), alexnet(classes=2)
    convolutions = [part for part in network.stages.modules() if isinstance(part, nn.Conv2d)]
    for convolution, index in zip(convolutions, (0, 3, 6, 8, 10), strict=True):
        convolution.load_state_dict({part: weights[f"features.{index}.{part}"] for part in ("weight", "bias")})
    return LPIPS(network)


def cifar10_test(count):
    """The first test images, `[count, 3, 32, 32]` in [0, 1], and their labels."""
    with tarfile.open(shared_data("cifar10", "cifar10_30k_webp.tar")) as archive:
        files = {member.name.rsplit("/", 1)[-1]: member for member in archive if member.isfile()}
        read = {name: archive.extractfile(files[name]).read() for name in ("test_batch.webp", "labels.npz")}
    sheet = np.asarray(Image.open(io.BytesIO(read["test_batch.webp"])).convert("RGB"))
    tiles = sheet.reshape(sheet.shape[0] // 32, 32, 20, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)[:count]
    with np.load(io.BytesIO(read["labels.npz"])) as labels:
        return torch.from_numpy(tiles.transpose(0, 3, 1, 2) / np.float32(255)), torch.from_numpy(
            labels["test"][:count].astype(np.int64)
        )

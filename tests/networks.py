"""The published CIFAR-10 classifiers of the test data, as the networks they were saved from."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from gauntlet.models import Normalise
from tests.fixtures import shared_data


class _Block(nn.Module):
    """Two 3×3 convolutions; a shortcut without weights that drops pixels and adds empty channels (option A)."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride, self.empty = stride, (after - before) // 2

    def forward(self, maps):
        short = F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.empty, self.empty))
        return F.relu(short + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps))))))


class ResNet32(nn.Module):
    """He et al., "Deep residual learning for image recognition", CVPR 2016, §4.2, with n = 5; images in [0, 1]."""

    def __init__(self):
        super().__init__()
        self.normalise = Normalise([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(*(_Block(before if i == 0 else width, width, stride if i == 0 else 1) for i in range(5)))
            for before, width, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, images):
        maps = F.relu(self.bn1(self.conv1(self.normalise(images))))
        return self.linear(self.layer3(self.layer2(self.layer1(maps))).mean((2, 3)))


def resnet32(name):
    """One of `normal`, `delta`, `recoloradv_stadv_delta`, in eval mode."""
    path = shared_data("weights", "cifar10_resnet32", f"{name}.resnet32.pt")
    saved = torch.load(path, map_location="cpu", weights_only=True)
    state = saved.get("state_dict", saved.get("model", saved))
    network = ResNet32()
    found = {key.removeprefix("module."): value for key, value in state.items()}
    missing = network.load_state_dict(found, strict=False)
    assert not missing.unexpected_keys
    assert all(key.startswith("normalise") or key.endswith("batches_tracked") for key in missing.missing_keys)
    return network.eval()


def cifar10(count):
    """The first images of each class of the CIFAR-10 test set, mixed: `[count, 3, 32, 32]` in [0, 1], and labels."""
    from PIL import Image

    folder = shared_data("cifar10", "mini")
    with Image.open(folder / "test.webp") as picture:
        sheet = np.asarray(picture.convert("RGB"))
    rows = sheet.shape[0] // 32
    tiles = sheet.reshape(rows, 32, 20, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)
    with np.load(folder / "labels.npz") as labels:
        classes = labels["test"]
    images = torch.from_numpy(tiles[:count].transpose(0, 3, 1, 2).copy()).float() / 255
    return images, torch.from_numpy(classes[:count].astype(np.int64))

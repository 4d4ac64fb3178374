"""The CIFAR-10 networks of the optional test data, and a few real images for them."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from gauntlet.models import Normalise
from tests.fixtures import shared_data

CHECKPOINTS = {
    "normal": "normal.resnet32.pt",
    "delta": "delta.resnet32.pt",
    "recolor_stadv_delta": "recoloradv_stadv_delta.resnet32.pt",
}


class Block(nn.Module):
    """Two convolutions beside a shortcut without weights: every other pixel, new channels 0 (He et al., option A)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.stride, self.padding = stride, (outputs - inputs) // 2

    def forward(self, maps):
        shortcut = F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps))))) + shortcut)


class ResNet32(nn.Module):
    """Three stages of five blocks with 16, 32 and 64 channels; the names of the tensors are those of the files."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = (16, 16, 32, 64)
        for stage in (1, 2, 3):
            first = Block(widths[stage - 1], widths[stage], 1 if stage == 1 else 2)
            blocks = (Block(widths[stage], widths[stage], 1) for _ in range(4))
            setattr(self, f"layer{stage}", nn.Sequential(first, *blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, images):
        maps = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(images))))))
        return self.linear(maps.mean((2, 3)))


def resnet32(name, dtype=torch.float32):
    """One of the three classifiers with its weights, in eval mode."""
    content = torch.load(
        shared_data("weights", "cifar10_resnet32", CHECKPOINTS[name]), map_location="cpu", weights_only=True
    )
    tensors = content.get("state_dict", content.get("model", content))
    network = ResNet32()
    given = {key.removeprefix("module."): value for key, value in tensors.items()}
    network.load_state_dict({key: given.get(key, value) for key, value in network.state_dict().items()})
    assert len(given.keys() & dict(network.named_parameters()).keys()) == 95, "a tensor is missing"
    normalise = Normalise([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return nn.Sequential(normalise, network).to(dtype).eval()


def cifar10(count, dtype=torch.float32):
    """`[count, 3, 32, 32]` test images in [0, 1] and their labels, some of each class."""
    from PIL import Image

    with Image.open(shared_data("cifar10", "mini", "test.webp")) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    rows = pixels.shape[0] // 32
    tiles = pixels.reshape(rows, 32, 20, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)
    with np.load(shared_data("cifar10", "mini", "labels.npz")) as arrays:
        labels = torch.from_numpy(arrays["test"][:count].astype(np.int64))
    images = torch.from_numpy(tiles[:count].copy()).permute(0, 3, 1, 2).to(dtype).div(255)
    return images.contiguous(), labels

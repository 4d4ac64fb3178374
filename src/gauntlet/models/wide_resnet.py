"""Wide residual networks with pre-activation (Zagoruyko & Komodakis, "Wide residual networks", BMVC 2016)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from gauntlet.models.taps import Normalise, TappedClassifier


def wide_resnet(
    classes: int,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    depth: int = 34,
    width: int = 10,
) -> TappedClassifier:
    """WRN-depth-width; the defaults are the network of TRADES, which does not normalise.

    Args:
        classes: number of logits, K.
        mean: per channel, in [0, 1]; as many as the images have channels.
        std: per channel, in [0, 1].
        depth: convolutions, 6 n + 4 for n blocks in each of the three groups.
        width: k, the groups have 16 k, 32 k and 64 k channels. φ is read at the end of each group.

    Raises:
        ValueError: there is no such depth.
    """
    blocks, rest = divmod(depth - 4, 6)
    if blocks < 1 or rest or width < 1:
        raise ValueError(f"WRN-{depth}-{width}: the depth is 6 n + 4, such as 16, 28 or 34, and the width at least 1")
    widths = (16 * width, 32 * width, 64 * width)
    head = nn.Linear(widths[2], classes)
    nn.init.zeros_(head.bias)
    network = nn.Sequential(
        OrderedDict(
            conv1=_convolution(len(mean), 16),
            block1=_group(16, widths[0], 1, blocks),
            block2=_group(widths[0], widths[1], 2, blocks),
            block3=_group(widths[1], widths[2], 2, blocks),
            bn1=nn.BatchNorm2d(widths[2]),
            relu=nn.ReLU(inplace=True),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=head,
        )
    )
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    return TappedClassifier(Normalise(mean, std), network, ("block1", "block2", "block3"))


class _Block(nn.Module):
    """x + F(x), activated before each convolution; a projection reads the activated x."""

    identity: ClassVar[str] = "wide_block/1"

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), _convolution(inputs, outputs, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), _convolution(outputs, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, maps: Tensor) -> Tensor:
        active = self.bn1(maps).relu()
        change: Tensor = self.conv2(self.bn2(self.conv1(active)).relu())
        return change + (maps if self.shortcut is None else self.shortcut(active))


def _group(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    rest = (_Block(outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(_Block(inputs, outputs, stride), *rest)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)

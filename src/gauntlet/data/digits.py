"""scikit-learn's handwritten digits: 1,797 real scans that are part of its wheel, so nothing is downloaded.

Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI 1998: 8×8 pixels of 17 grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from gauntlet.data.augmentation import Augmentation
from gauntlet.data.examples import Examples, permutation
from gauntlet.data.module import ImageData, Splits

_TEST, _VALIDATION = 400, 97  # of 1,797; the other 1,300 train


class Digits(ImageData):
    """The digits as RGB images of any size, enlarged bilinearly.

    Args:
        batch_size: training examples per step and process.
        seed: of the order of training examples and of their augmentation; the splits do not depend on it.
        size: height and width; 32 makes them CIFAR-sized.
        augmentation: of training batches.
    """

    def __init__(
        self, batch_size: int = 64, seed: int = 0, size: int = 32, augmentation: Sequence[Augmentation] = ()
    ) -> None:
        super().__init__(batch_size, seed, augmentation)
        if size < 8:
            raise ValueError(f"digits of size {size}: the scans are 8×8, expected at least 8")
        self.size = size

    def load(self) -> Splits:
        """Read the wheel; the split of an example is a hash of its id."""
        from sklearn.datasets import load_digits

        scans, labels = load_digits(return_X_y=True)
        grey = torch.tensor(scans, dtype=torch.float64).reshape(-1, 1, 8, 8) / 16
        large = F.interpolate(grey, size=(self.size, self.size), mode="bilinear", align_corners=False)
        images = (large * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
        classes = torch.tensor(labels, dtype=torch.int64)
        order = permutation(len(classes), 0)
        test, validation, train = order.split([_TEST, _VALIDATION, len(order) - _TEST - _VALIDATION])
        return Splits(*(Examples(images[ids], classes[ids], ids) for ids in (train, validation, test)))

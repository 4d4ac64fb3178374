"""Second sources of training images: an array file, or class folders of pictures."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from gauntlet.data.examples import Examples, Split
from gauntlet.data.folder import counted, folders_in, pictures_in
from gauntlet.data.views import View
from gauntlet.errors import UserError, first_line


@runtime_checkable
class Source(Protocol):
    """A source of images with labels."""

    def load(self, shape: Sequence[int], classes: int) -> Split:
        """Return the examples, for a dataset of `[C, H, W]` images and `classes` classes; ids are at least 0.

        Raises:
            UserError: the source is missing or does not fit the dataset.
        """


@dataclass(frozen=True)
class ArrayFile:
    """One `.npz` with `image`, uint8 `[N, H, W, C]` or `[N, H, W]`, and `label`, `[N]` integers.

    The layout in which generated CIFAR images are distributed (Gowal et al. 2021 and after). The whole file is held in
    memory; an example's id is its index in the file.

    Args:
        root: the file.
    """

    root: str | Path

    def load(self, shape: Sequence[int], classes: int) -> Examples:
        """Return the examples, as in `Source`."""
        image, label = self._arrays()
        self._check(image, label, shape, classes)
        pixels = torch.from_numpy(image[..., None] if image.ndim == 3 else image).permute(0, 3, 1, 2)
        return Examples(pixels, torch.from_numpy(label.astype(np.int64)), torch.arange(len(label)))

    def _arrays(self) -> tuple[NDArray[Any], NDArray[Any]]:
        if not Path(self.root).is_file():
            raise UserError(f"there is no file {self.root}: say where the .npz lies with dataset.extra.root=<file>")
        try:
            with np.load(self.root, allow_pickle=False) as arrays:
                if missing := {"image", "label"} - set(arrays.files):
                    present = ", ".join(arrays.files) or "nothing"
                    raise UserError(f"{self.root} has no {' and no '.join(sorted(missing))}, but {present}")
                return arrays["image"], arrays["label"]
        except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            reason = first_line(error)[:100]
            raise UserError(f"{self.root} is damaged or no .npz of plain arrays ({reason}): fetch it again") from None

    def _check(self, image: NDArray[Any], label: NDArray[Any], shape: Sequence[int], classes: int) -> None:
        channels, height, width = shape
        expected = [(height, width, channels)] + ([(height, width)] if channels == 1 else [])
        if image.dtype != np.uint8 or image.shape[1:] not in expected or not len(image):
            raise UserError(
                f"image of {self.root} is {image.dtype} {list(image.shape)}:"
                f" expected uint8 {['N', *expected[0]]} as the dataset's images are".replace("'", "")
            )
        if label.dtype.kind not in "iu" or label.shape != image.shape[:1]:
            raise UserError(
                f"label of {self.root} is {label.dtype} {list(label.shape)}: expected {len(image)} integers"
            )
        if label.min() < 0 or label.max() >= classes:
            raise UserError(
                f"label of {self.root} runs from {label.min()} to {label.max()}: the dataset's {classes} classes are"
                f" 0 to {classes - 1}"
            )


@dataclass(frozen=True)
class PictureFolder:
    """Pictures of any size in class folders, `<class>/*`, read from disk when needed.

    A label is the index of its folder's name among the sorted names, as in torchvision's `ImageFolder` and in every
    dataset here; an id is a hash of the path.

    Args:
        root: the folder with the class folders.
        view: crop of each picture in training.
    """

    root: str | Path
    view: View

    def load(self, shape: Sequence[int], classes: int) -> Split:
        """Return the examples, as in `Source`."""
        root = Path(self.root)
        if not root.is_dir():
            raise UserError(f"there is no folder {root}: say where <class>/* lie with dataset.extra.root=<folder>")
        names = folders_in(root)
        if len(names) != classes:
            raise UserError(
                f"{counted(root, names)}: expected the dataset's {classes} classes, in the order of their labels"
            )
        return pictures_in(root, names, root, self.view, self.view, shape[0])

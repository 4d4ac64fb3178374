"""ImageNet-100 of Laidlaw et al. 2021: every tenth of the 1,000 ILSVRC-2012 classes, sorted by wnid."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from gauntlet.data.augmentation import Augmentation
from gauntlet.data.folder import ImageFolder, difference, folders_in
from gauntlet.data.views import View
from gauntlet.errors import UserError

WNIDS = tuple(files("gauntlet.data").joinpath("imagenet100.txt").read_text(encoding="utf-8").split())
"""The hundred classes: class i is class 10 i of ILSVRC-2012."""


class ImageNet100(ImageFolder):
    """The hundred classes from an ILSVRC tree, `train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`.

    The tree may hold all 1,000 classes or just these; other sets with the same name are refused.

    Args:
        root: the folder with `train` and `val`.
        view, training_view, validation, workers, batch_size, seed, augmentation: as in `ImageFolder`.
    """

    def __init__(
        self,
        root: str | Path,
        view: View,
        training_view: View,
        batch_size: int = 128,
        seed: int = 0,
        augmentation: Sequence[Augmentation] = (),
        validation: float = 0.02,
        workers: int = 4,
    ) -> None:
        super().__init__(
            root,
            len(WNIDS),
            view,
            training_view,
            batch_size,
            seed,
            augmentation,
            validation=validation,
            workers=workers,
        )

    def class_names(self, folder: Path) -> list[str]:
        """Return the hundred wnids, if the folder holds them alone or all of ILSVRC.

        Raises:
            UserError: the folder holds another set.
        """
        names = folders_in(folder)
        chosen = names[::10] if len(names) == 1000 else names
        if tuple(chosen) != WNIDS:
            raise UserError(
                f"{folder} is not ImageNet-100: every tenth of ILSVRC's 1,000 sorted wnids, or these 100 alone"
                f" ({difference(chosen, WNIDS)}); use dataset=image_folder for another set"
            )
        return chosen

    def hint(self) -> str:
        """Return the end of an error message: where to put the images."""
        return "put ILSVRC-2012's train/<wnid>/ and val/<wnid>/ into it, or choose dataset.root=<folder>"

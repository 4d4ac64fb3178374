"""Any images in class folders: `train/<class>/**` and `test/<class>/**` (or `val/<class>/**`)."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only

from gauntlet.data.augmentation import Augmentation
from gauntlet.data.examples import held_out
from gauntlet.data.files import ImageFiles
from gauntlet.data.listing import is_folder, listed
from gauntlet.data.module import ImageData, Splits
from gauntlet.data.pictures import check_pictures, is_picture
from gauntlet.data.views import View
from gauntlet.errors import UserError, one_line


class ImageFolder(ImageData):
    """Pictures of any size and any format that Pillow decodes, read from disk when needed.

    A class is a folder with all folders inside. Hidden files and files that are no pictures are left out and counted
    in one line of warning. The test split is the folder `test`, or `val` without one. Validation is held out from
    `train` by a hash of each path; a `val` beside a `test` is not used. Every split is sorted by ids, which are
    hashes, so that its first n examples are a sample of all classes.

    Args:
        root: the folder with `train` and `test` or `val`.
        classes: their number; a label is the index of its folder's name among the sorted names.
        view: crop of each picture in evaluation and validation.
        training_view: crop of each picture in training.
        channels: 3, or 1 for grey.
        validation: share of the training images held out.
        workers: number of reading processes.
        batch_size, seed, augmentation: as in `ImageData`.
    """

    def __init__(
        self,
        root: str | Path,
        classes: int,
        view: View,
        training_view: View,
        batch_size: int = 50,
        seed: int = 0,
        augmentation: Sequence[Augmentation] = (),
        channels: int = 3,
        validation: float = 0.02,
        workers: int = 4,
    ) -> None:
        super().__init__(batch_size, seed, augmentation, workers)
        if view.size != training_view.size:
            raise ValueError(
                f"view makes images of {view.size}, training_view of {training_view.size}: expected one size"
            )
        if channels not in (1, 3):
            raise ValueError(f"channels {channels}: expected 3, or 1 for grey")
        self.root, self.classes, self.validation = Path(root), classes, validation
        self.view, self.training_view, self.channels = view, training_view, channels

    def load(self) -> Splits:
        """List the files and check some of them; no pixels are read yet."""
        train_folder, test_folder = self._folders()
        names, others = self.class_names(train_folder), self.class_names(test_folder)
        if names != others:
            raise UserError(f"{test_folder} and {train_folder} have other classes: {difference(others, names)}")
        if len(names) != self.classes:
            raise UserError(
                f"{counted(train_folder, names)}, dataset.classes is {self.classes}: write dataset.classes={len(names)}"
            )
        train, test = self._listed(train_folder, names), self._listed(test_folder, names)
        held = held_out(train.ids, self.validation)
        return Splits(train.rows(~held), train.rows(held), test)

    def class_names(self, folder: Path) -> list[str]:
        """Return the names of the class folders in the order of their labels."""
        return folders_in(folder)

    def _folders(self) -> tuple[Path, Path]:
        if not self.root.is_dir():
            raise UserError(f"there is no folder {self.root}: {self.hint()}")
        train = self.root / "train"
        test = next((self.root / name for name in ("test", "val") if (self.root / name).is_dir()), None)
        if test is None or not train.is_dir():
            missing = "train" if not train.is_dir() else "test or val"
            raise UserError(f"{self.root} has no folder {missing}: {self.hint()}")
        return train, test

    def hint(self) -> str:
        """Return the end of an error message: where to put the images."""
        return "put the images into train/<class>/ and test/<class>/ of it, or choose dataset.root=<folder>"

    def _listed(self, folder: Path, names: Sequence[str]) -> ImageFiles:
        """List the pictures of the class folders."""
        return pictures_in(folder, names, self.root, self.view, self.training_view, self.channels)


def pictures_in(
    folder: Path, names: Sequence[str], root: Path, view: View, training_view: View, channels: int
) -> ImageFiles:
    """List all pictures in the class folders and the folders inside them, in the order of their ids.

    Hidden files and files that are no pictures are left out and counted in one line of warning.

    Args:
        folder: that holds the class folders.
        names: of the class folders, in the order of their labels.
        root: `folder`, or one above it; ids are hashes of the paths below it.
        view: crop of each picture in evaluation.
        training_view: crop of each picture in training.
        channels: 3, or 1 for grey.

    Raises:
        UserError: a class folder holds no pictures, or a checked file is no picture.
    """
    entries = []
    left_out = _outside_classes(folder)
    for label, name in enumerate(names):
        listing = listed(folder / name)
        if not listing.pictures:
            more = f" (of its {len(listing.others)} other files Pillow reads none)" if listing.others else ""
            raise UserError(f"{folder / name} holds no pictures{more}: fill the class, or remove its folder everywhere")
        left_out += listing.others
        for file in listing.pictures:
            path = file.relative_to(root).as_posix()
            entries.append((id_of(path), path, label))
    _warn_about(folder, left_out)
    ids, paths, labels = zip(*sorted(entries), strict=True)
    check_pictures(root / path for path in paths)
    return ImageFiles(root, paths, torch.tensor(labels), torch.tensor(ids), view, training_view, channels)


def _outside_classes(folder: Path) -> list[Path]:
    """Return hidden entries and files beside the class folders, which belong to no class."""
    with os.scandir(folder) as entries:
        return [folder / entry.name for entry in entries if entry.name.startswith(".") or not is_folder(entry)]


@rank_zero_only
def _warn_about(folder: Path, left_out: Sequence[Path]) -> None:
    """Print one line of warning about files and folders that are left out."""
    if not left_out:
        return
    visible = [file for file in left_out if not file.name.startswith(".")]
    hidden = len(left_out) - len(visible)
    suffixes = Counter(file.suffix.lower() or "without an extension" for file in visible).most_common(3)
    parts = [f"{count:,} {suffix}" for suffix, count in suffixes]
    rest = len(visible) - sum(count for _, count in suffixes)
    if rest:
        parts.append(f"{rest:,} others")
    if hidden:
        parts.append(f"{hidden:,} hidden")
    line = (
        f"warning: {folder}: {len(left_out):,} files or folders are left out, for they are no picture in a class"
        f" ({', '.join(parts)}), such as {min(left_out).relative_to(folder)}"
    )
    print(one_line(line), flush=True)


def folders_in(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder.

    Raises:
        UserError: there are none.
    """
    with os.scandir(folder) as entries:
        inside = [entry for entry in entries if not entry.name.startswith(".")]
    names = sorted(entry.name for entry in inside if is_folder(entry))
    if not names:
        flat = sum(entry.is_file() and is_picture(Path(entry)) for entry in inside)
        raise UserError(
            f"{folder} holds {flat:,} pictures and no class folders: move each picture into {folder}/<class>/"
            + (" (of ILSVRC's val the validation ground truth of the devkit says which)" if flat else "")
        )
    return names


def counted(folder: Path, names: Sequence[str]) -> str:
    """Return `train has 5 class folders (a, b, c and 2 more)`."""
    return f"{folder} has {len(names)} class folders ({_few(names)})"


def difference(names: Sequence[str], expected: Sequence[str]) -> str:
    """Return `missing a, b and 3 more; extra c`."""
    missing = sorted(set(expected) - set(names))
    extra = sorted(set(names) - set(expected))
    parts = []
    if missing:
        parts.append(f"missing {_few(missing)}")
    if extra:
        parts.append(f"extra {_few(extra)}")
    return "; ".join(parts)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def id_of(path: str) -> int:
    """Return 63 bits of a hash of the path below the root, the same on every machine."""
    return int.from_bytes(hashlib.sha256(os.fsencode(path)).digest()[:8], "big") >> 1

"""Folders of pictures: each that Pillow reads is an example once, with its label and pixels, or a line says why not."""

import io
import os
import warnings
from contextlib import redirect_stdout

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gauntlet.data import CentreCrop, ImageFolder, RandomResizedCrop
from gauntlet.data.pictures import has_picture_extension
from gauntlet.errors import UserError
from tests.fuzz.settings import cases
from tests.fuzz.trees import LOSSLESS, build, files_in, harmed, painted, trees

SIZE = 16
SIGNED = ("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "ICO", "QOI", "PCX", "JPEG2000", "AVIF")


def dataset(root, classes, channels=3):
    views = {"view": CentreCrop(SIZE, SIZE), "training_view": RandomResizedCrop(SIZE)}
    return ImageFolder(root, classes=classes, validation=0.2, workers=0, channels=channels, **views)


def looked_at(file, mode):
    """What Pillow alone makes of a file: pixels `[C, H, W]` of its middle, or None where it is no such picture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(file) as picture:
                if picture.mode[0] in "IF":
                    return None
                seen = picture.convert(mode)
        except Exception:
            return None
    width, height = seen.size
    short = min(width, height)
    size = (SIZE * width // short, SIZE * height // short)
    if size != seen.size:
        seen = seen.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - SIZE) / 2), round((size[1] - SIZE) / 2)
    pixels = np.asarray(seen.crop((left, top, left + SIZE, top + SIZE)), dtype=np.float32) / 255
    return pixels.reshape(SIZE, SIZE, -1).transpose(2, 0, 1)


def passes_for_one(file):
    """Whether a file counts as a picture: by its name, or by its content."""
    if has_picture_extension(file.name):
        return True
    ending = Image.registered_extensions().get(file.suffix.lower())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as picture:
                return picture.format in SIGNED or picture.format == ending
    except Exception:
        return False


def one_line(text):
    text.encode()
    assert len(text.splitlines()) == 1, text
    return text


def loaded(root, classes, channels):
    """The dataset and its splits, with whatever was printed on a terminal that takes UTF-8 and nothing else."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with redirect_stdout(terminal):
        data = dataset(root, classes, channels)
        splits = data.splits
    terminal.flush()
    for line in terminal.buffer.getvalue().decode().split("\n")[:-1]:
        assert one_line(line).startswith("warning: ")
    return data, splits


@cases(few=30)
def test_every_picture_is_there_once_or_a_line_says_why_not(profile, tmp_path):
    @profile
    @given(trees(), st.sampled_from([3, 3, 1]))
    def check(tree, channels):
        root = build(tree, tmp_path / "tree")
        files = [file for split in ("train", "test") for name in tree.classes for file in files_in(root / split / name)]
        expected = {file: looked_at(file, "RGB" if channels == 3 else "L") for file in files if passes_for_one(file)}
        found = []
        try:
            _, splits = loaded(root, len(tree.classes), channels)
            for split in splits:
                for row, path in enumerate(split.paths):
                    found.append(root / path)
                    if expected[root / path] is not None:
                        batch = split[row]
                        assert np.array_equal(batch.images[0].numpy(), expected[root / path]), path
                        assert tree.classes[int(batch.labels[0])] == path.split("/")[1]
            for split in splits:
                _ = split[slice(0, len(split))]
        except UserError as refusal:
            line = one_line(str(refusal))
            wrong = [file for file, pixels in expected.items() if pixels is None]
            assert any(line.startswith(f"{escaped(file)} ") for file in wrong), line
        else:
            assert sorted(found) == sorted(expected)
            assert all(pixels is not None for pixels in expected.values())

    check()


def escaped(path):
    """A path as a line shows it: what cannot be printed is a backslash and its code."""
    plain = os.fspath(path).encode("utf-8", "backslashreplace").decode()
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in plain)


@cases(few=10)
def test_the_fingerprint_is_of_pixels_and_not_of_the_order_in_which_files_were_made(profile, tmp_path):
    whole = st.just("none")

    @profile
    @given(trees(whole), st.data())
    def check(tree, data):
        root = build(tree, tmp_path / "tree")
        try:
            first, splits = loaded(root, len(tree.classes), 3)
            fingerprint = first.fingerprint
        except UserError as refusal:
            one_line(str(refusal))
            return
        again, others = loaded(build(tree, tmp_path / "copy", backwards=True), len(tree.classes), 3)
        assert again.fingerprint == fingerprint
        assert all(split.ids.equal(other.ids) for split, other in zip(splits, others, strict=True))
        pictures = [node for node in tree.nodes if node.picture and node.picture.kind in LOSSLESS]
        node = data.draw(st.sampled_from([node for node in pictures if not node.path.split("/")[-1].startswith(".")]))
        file = root / node.path
        if not any(file == root / path for split in splits for path in split.paths):
            return
        changed = painted(node.picture.kind, node.picture.mode, node.picture.size, node.picture.seed + 1000)
        if changed == file.read_bytes():  # of one pixel, say
            return
        file.write_bytes(changed)
        assert loaded(root, len(tree.classes), 3)[0].fingerprint != fingerprint

    check()


@pytest.mark.parametrize("harm", ["cut", "flipped", "zeros"])
def test_harm_is_harm(harm):
    content = painted("BMP", "RGB", (16, 16), 0)
    assert harmed(content, harm, 0.5) != content

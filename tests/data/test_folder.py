"""Pictures in class folders: listed, checked, viewed; ImageNet-100 is the paper's hundred classes and no others."""

import hashlib
import os
import shutil
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from gauntlet.data import (
    CentreCrop,
    ImageFolder,
    ImageNet100,
    RandomFlip,
    RandomResizedCrop,
    Step,
    TrainingExamples,
    pictures,
)
from gauntlet.data.imagenet100 import WNIDS
from gauntlet.errors import UserError
from gauntlet.noise import Noise
from tests.fixtures import shared_data

VIEWS = {"view": CentreCrop(16, 18), "training_view": RandomResizedCrop(16)}


def paint(file, seed=0, size=(24, 20), mode="RGB"):
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file)


@pytest.fixture
def tree(tmp_path):
    """Three classes, eight training and three test pictures each, of several sizes and modes."""
    for label, name in enumerate(("ant", "bee", "cow")):
        for number in range(8):
            mode = ("RGB", "L", "RGBA", "P")[number % 4]
            paint(tmp_path / "train" / name / f"{number}.png", 100 * label + number, (20 + number, 31 - number), mode)
        for number in range(3):
            paint(tmp_path / "test" / name / f"{number}.png", 1000 + 100 * label + number)
    return tmp_path


def folder(root, **arguments):
    return ImageFolder(root, **{"classes": 3, "validation": 0.2, "workers": 0, **VIEWS, **arguments})


def test_a_tree_is_listed_and_split(tree):
    splits = folder(tree).splits
    ids = torch.cat([split.ids for split in splits])
    assert len(ids.unique()) == len(ids) == 33
    assert ids.amin() >= 0
    assert len(splits.train) + len(splits.validation) == 24
    assert all(path.startswith("train/") for path in (*splits.train.paths, *splits.validation.paths))
    assert all(path.startswith("test/") for path in splits.test.paths)
    names = ["ant", "bee", "cow"]
    assert [names[label] for label in splits.test.labels] == [path.split("/")[1] for path in splits.test.paths]
    assert splits.test.ids.equal(splits.test.ids.sort().values), "the first n are a sample of all classes"


def test_ids_and_fingerprint_do_not_depend_on_the_location(tree, tmp_path):
    there = shutil.copytree(tree, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("elsewhere"))
    here, elsewhere = folder(tree), folder(there, batch_size=7, seed=3, augmentation=[RandomFlip()])
    assert here.fingerprint == elsewhere.fingerprint
    assert here.splits.test.ids.equal(elsewhere.splits.test.ids)


@pytest.mark.parametrize("change", ["file", "label", "size", "pixels", "link", "view", "channels"])
def test_the_fingerprint_changes_with_the_content_and_its_view(tree, change):
    before = folder(tree).fingerprint
    arguments = {}
    if change == "file":
        (tree / "test" / "ant" / "0.png").rename(tree / "test" / "ant" / "9.png")
    elif change == "label":
        (tree / "test" / "ant" / "0.png").rename(tree / "test" / "bee" / "10.png")
    elif change == "size":
        paint(tree / "test" / "ant" / "0.png", size=(40, 40))
    elif change == "pixels":
        file = tree / "test" / "ant" / "0.png"
        file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    elif change == "link":
        file = tree / "test" / "ant" / "0.png"
        file.unlink()
        file.symlink_to(tree / "test" / "bee" / "0.png")
    elif change == "view":
        arguments["view"] = CentreCrop(16, 20)
    else:
        arguments["channels"] = 1
    assert folder(tree, **arguments).fingerprint != before


@pytest.mark.parametrize("kind", ["bmp", "ppm", "tif"])
@pytest.mark.parametrize("location", ["train/b/1", "test/a/0"])
def test_other_pixels_in_files_of_the_same_names_and_sizes_are_other_data(tmp_path, kind, location):
    """BMP, PPM and plain TIFF of one shape all have one size."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            for number in range(4):
                paint(tmp_path / split / name / f"{number}.{kind}", number)
    before, size = folder(tmp_path, classes=2), (tmp_path / f"{location}.{kind}").stat().st_size
    fingerprint = before.fingerprint
    paint(tmp_path / f"{location}.{kind}", 77)
    assert (tmp_path / f"{location}.{kind}").stat().st_size == size
    assert folder(tmp_path, classes=2).fingerprint != fingerprint
    paint(tmp_path / f"{location}.{kind}", int(location[-1]))
    assert folder(tmp_path, classes=2).fingerprint == fingerprint


def test_a_digest_is_the_files_own_whatever_their_number_and_order(tmp_path):
    files = [tmp_path / str(number) for number in range(600)]
    for number, file in enumerate(files):
        file.write_bytes(b"x" * number)
    expected = [hashlib.sha256(b"x" * number).hexdigest() for number in range(600)]
    assert pictures.digests_of(files) == expected
    assert pictures.digests_of(files[::-1]) == expected[::-1]
    with pytest.raises(UserError, match="nowhere cannot be read"):
        pictures.digests_of([*files, tmp_path / "nowhere"])


def test_examples_have_the_interface_of_a_split(tree):
    test = folder(tree).splits.test
    batch = test[slice(2, 6)]
    assert batch.images.shape == (4, *test.shape) == (4, 3, 16, 16)
    assert batch.images.dtype == torch.float32
    assert 0 <= batch.images.amin() <= batch.images.amax() <= 1
    assert test[3].images.equal(batch.images[1:2])
    assert test[torch.tensor([5, 2])].images.equal(batch.images[[3, 0]])
    assert test[torch.arange(9) == 4].ids.equal(test.ids[4:5])
    assert len(test[slice(0, 0)].images) == 0
    assert test.__getitems__([3, 4]).labels.equal(test.labels[3:5])


def test_pixels_are_those_of_the_file(tmp_path):
    """A picture of the view's own size is not changed."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            for number in range(2):
                paint(tmp_path / split / name / f"{number}.png", number, (16, 16))
    data = folder(tmp_path, classes=2, view=CentreCrop(16, 16))
    test = data.splits.test
    for row, path in enumerate(test.paths):
        expected = np.asarray(Image.open(tmp_path / path), dtype=np.float32) / 255
        assert np.array_equal(test[row].images[0].permute(1, 2, 0).numpy(), expected)
    grey = folder(tmp_path, classes=2, view=CentreCrop(16, 16), channels=1).splits.test
    assert grey.shape == (1, 16, 16)
    expected = np.asarray(Image.open(tmp_path / grey.paths[0]).convert("L"), dtype=np.float32) / 255
    assert np.array_equal(grey[0].images[0, 0].numpy(), expected)


def test_grey_pictures_are_three_equal_channels(tree):
    train = folder(tree).splits.train
    row = next(row for row, path in enumerate(train.paths) if path.endswith("/1.png"))
    image = train[row].images[0]
    assert image[0].equal(image[1])
    assert image[0].equal(image[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_batch_is_the_same_from_any_number_of_workers(tree, workers):
    train = folder(tree).splits.train
    training = TrainingExamples(train, (RandomFlip(),), 0)
    steps = [Step(1, [0, 1, 2]), Step(1, [5, 4, 3])]
    loader = DataLoader(training, batch_sampler=steps, collate_fn=lambda batch: batch, num_workers=workers)
    actual = list(loader)
    expected = [training.__getitems__(Step(1, [row])) for row in (0, 1, 2, 5, 4, 3)]
    assert torch.cat([batch.images for batch in actual]).equal(torch.cat([batch.images for batch in expected]))
    assert not training.__getitems__(Step(2, [0])).images.equal(expected[0].images)


def test_training_uses_its_own_view(tree):
    train = folder(tree, training_view=CentreCrop(16, 30)).splits.train
    rows = torch.arange(3)
    assert not train.draw(rows, Noise(rows)).images.equal(train[rows].images)


def cut_off(file):
    file.write_bytes(file.read_bytes()[:-200])


def no_head(file):
    file.write_bytes(file.read_bytes()[:20])


def web_page(file):
    file.write_text("<!DOCTYPE html><html>404</html>")


def empty(file):
    file.write_bytes(b"")


def sixteen_bit(file):
    Image.fromarray(np.zeros((20, 20), np.uint16)).save(file)


HARMED = {
    cut_off: "is damaged or cut off (",
    no_head: "is damaged or cut off (",
    web_page: "is no picture, it is a web page: fetch it again, or remove it",
    empty: "is no picture, it is empty: fetch it again, or remove it",
    sixteen_bit: "has I;16 pixels: expected 8 bits a channel; convert or remove it",
}


@pytest.mark.parametrize("harm", HARMED)
@pytest.mark.parametrize("location", ["train/cow/7.png", "test/bee/1.png"])
def test_a_file_that_is_no_picture_is_refused_before_a_run_begins(tree, harm, location):
    harm(tree / location)
    with pytest.raises(UserError) as refusal:
        _ = folder(tree).splits
    assert str(refusal.value).startswith(f"{tree / location} {HARMED[harm]}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("harm", HARMED)
def test_an_unchecked_file_that_is_no_picture_is_refused_when_it_is_read(tree, workers, harm, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_CHECKED", 0)
    file = tree / "test" / "bee" / "1.png"
    harm(file)
    test = folder(tree).splits.test
    with pytest.raises(pictures.UnreadablePicture) as refusal:
        list(DataLoader(test, batch_size=4, collate_fn=lambda batch: batch, num_workers=workers))
    assert str(refusal.value).startswith(f"{file} {HARMED[harm]}")
    assert "\n" not in str(refusal.value)


def test_pictures_of_every_format_pass_the_check(tmp_path):
    """Also with data appended to the picture: a file that can be decoded is never refused."""
    for number, kind in enumerate(("png", "jpg", "bmp", "webp", "tif", "ppm", "pgm")):
        for split in ("train", "test"):
            for name in ("a", "b"):
                paint(tmp_path / split / name / f"{number}.{kind}", number, mode="L" if kind == "pgm" else "RGB")
    for file in tmp_path.rglob("*.jpg"):
        file.write_bytes(file.read_bytes() + b"\0" * 5000)
    splits = folder(tmp_path, classes=2).splits
    assert len(splits.test[slice(0, 14)].images) == len(splits.test) == 14


FORMATS = {
    "gif": "GIF",
    "jfif": "JPEG",
    "JPE": "JPEG",
    "": "PNG",
    "tga": "TGA",
    "ico": "ICO",
    "pcx": "PCX",
    "wrong": "WEBP",
    "qoi": "QOI",
    "dib": "DIB",
}


def test_every_format_of_pillow_is_read_and_folders_inside_a_class_belong_to_it(tmp_path, capsys):
    """By name or by content, at any depth; the pixels are Pillow's."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            for number, (ending, kind) in enumerate(FORMATS.items()):
                location = tmp_path / split / name / ("more/still more" if number % 2 else "")
                location.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(location / (f"{number}.{ending}" if ending else str(number)), kind)
    data = folder(tmp_path, classes=2, view=CentreCrop(16, 16))
    test = data.splits.test
    assert len(test) == 2 * len(FORMATS)
    assert test.labels.bincount().tolist() == [len(FORMATS)] * 2
    for row, path in enumerate(test.paths):
        assert path.startswith(f"test/{'ab'[int(test.labels[row])]}/")
        expected = np.asarray(Image.open(tmp_path / path).convert("RGB"), dtype=np.float32) / 255
        assert np.array_equal(test[row].images[0].permute(1, 2, 0).numpy(), expected), path
    assert not capsys.readouterr().out


def test_what_is_left_out_is_counted_in_one_line(tree, capsys):
    ant = tree / "train" / "ant"
    (ant / "labels.txt").write_text("ant")
    (ant / "more.txt").write_text("ant")
    (ant / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    (ant / "noise.bin").write_bytes(bytes([0, 0, 2]) + bytes(9) + bytes([1, 0, 1, 0, 24, 0]) + bytes(9))  # or Targa
    (ant / ".DS_Store").touch()
    (ant / ".ipynb_checkpoints").mkdir()
    paint(ant / ".ipynb_checkpoints" / "0.png")
    paint(tree / "train" / "stray.png")
    os.mkfifo(ant / "pipe")
    assert len(folder(tree).splits.test) == 9
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"warning: {tree / 'train'}: 8 files or folders are left out")
    assert "(2 .txt, " in line
    assert "2 hidden), such as" in line


def test_links_are_followed_but_not_in_circles(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    paint(elsewhere / "far.png")
    (tree / "test" / "ant" / "link").symlink_to(elsewhere)
    (tree / "test" / "ant" / "up").symlink_to(tree / "test")
    (tree / "test" / "ant" / "again").symlink_to(tree / "test" / "ant")
    paths = folder(tree).splits.test.paths
    assert "test/ant/link/far.png" in paths
    assert len(paths) == 10
    (tree / "test" / "bee" / "nowhere.png").symlink_to(tree / "nothing")
    with pytest.raises(UserError, match=r"nowhere.png cannot be read \(No such file or directory\)"):
        _ = folder(tree).splits


def test_names_are_bytes(tree, capsys):
    """A name that is no UTF-8 has an id and a digest, and one that is left out can be printed."""
    location = tree / "test" / "ant"
    (location / "0.png").rename(location / os.fsdecode(b"\xff.png"))
    (location / os.fsdecode(b"\xfe.txt")).write_text("no picture")
    data = folder(tree)
    assert len(data.fingerprint) == 64
    assert len(data.splits.test) == 9
    assert "udcfe.txt" in capsys.readouterr().out


def no_root(tree):
    shutil.rmtree(tree)


def no_train(tree):
    shutil.rmtree(tree / "train")


def no_test(tree):
    shutil.rmtree(tree / "test")


def flat(tree):
    for file in list((tree / "test").rglob("*.png")):
        file.rename(tree / "test" / f"{file.parent.name}{file.name}")
    for name in ("ant", "bee", "cow"):
        (tree / "test" / name).rmdir()


def missing_class(tree):
    shutil.rmtree(tree / "test" / "bee")


def other_class(tree):
    (tree / "test" / "bee").rename(tree / "test" / "bug")


def empty_class(tree):
    for file in (tree / "train" / "bee").iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (no_root, "there is no folder"),
        (no_train, "has no folder train"),
        (no_test, "has no folder test or val"),
        (flat, "holds 9 pictures and no class folders: move each picture into"),
        (missing_class, "other classes: missing bee"),
        (other_class, "other classes: missing bee; extra bug"),
        (empty_class, "bee holds no pictures"),
    ],
)
def test_an_invalid_tree_is_refused(tree, harm, words):
    harm(tree)
    with pytest.raises(UserError) as refusal:
        _ = folder(tree).splits
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_another_number_of_classes_says_what_to_write(tree):
    with pytest.raises(UserError, match=r"3 class folders \(ant, bee, cow\), dataset.classes is 10: write"):
        _ = folder(tree, classes=10).splits


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"training_view": RandomResizedCrop(8)}, "expected one size"),
        ({"channels": 4}, "channels 4"),
        ({"workers": -1}, "workers -1"),
        ({"validation": 1.0}, "validation 1.0"),
    ],
)
def test_invalid_arguments_are_refused(tree, wrong, words):
    with pytest.raises(ValueError, match=words):
        _ = folder(tree, **wrong).splits


def ilsvrc(root, wnids, splits=("train", "val")):
    """A tree of tiny pictures with these classes."""
    paint(root / "tiny.jpg", size=(2, 2))
    tiny = (root / "tiny.jpg").read_bytes()
    for split in splits:
        for wnid in wnids:
            (root / split / wnid).mkdir(parents=True)
            for number in range(2):
                (root / split / wnid / f"{wnid}_{split}_{number}.JPEG").write_bytes(tiny)
    return root


def thousand():
    """1,000 wnids whose every tenth is one of the hundred."""
    return [wnid if location == 0 else f"{wnid}_{location}" for wnid in WNIDS for location in range(10)]


def hundred(root, **arguments):
    return ImageNet100(root, **{"workers": 0, **VIEWS, **arguments})


def test_the_hundred_are_every_tenth_of_the_thousand():
    table = shared_data("imagenet", "imagenet1k_classes.tsv").read_text().splitlines()
    wnids = [line.split("\t")[1] for line in table]
    assert len(wnids) == 1000
    assert tuple(sorted(wnids)[::10]) == WNIDS


def test_they_are_read_from_all_of_ilsvrc_or_from_a_tree_of_these_alone(tmp_path):
    whole, just = ilsvrc(tmp_path / "a", thousand()), ilsvrc(tmp_path / "b", WNIDS)
    assert hundred(whole).fingerprint == hundred(just).fingerprint
    test = hundred(whole).splits.test
    assert test.labels.bincount().tolist() == [2] * 100
    assert [WNIDS[label] for label in test.labels] == [path.split("/")[1] for path in test.paths]


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (WNIDS[:99], "missing n12768682"),
        ((*WNIDS, "n99999999"), "extra n99999999"),
        ((*WNIDS[:97], "n1", "n2", "n3"), "missing n09193705, n09472597, n12768682; extra n1, n2, n3"),
        (thousand()[:999], "extra"),
        ([f"n{number:08}" for number in range(1000)], "and 97 more"),
        ([*thousand()[1:], "n99999999"], "missing"),
    ],
)
def test_another_set_of_that_name_is_refused(tmp_path, classes, words):
    with pytest.raises(UserError, match="is not ImageNet-100") as refusal:
        _ = hundred(ilsvrc(tmp_path, classes)).splits
    assert words in str(refusal.value)


def test_val_is_checked_too_and_a_flat_one_is_explained(tmp_path):
    ilsvrc(tmp_path, WNIDS, ["train"])
    ilsvrc(tmp_path, WNIDS[1:], ["val"])
    with pytest.raises(UserError, match=r"val is not ImageNet-100.*missing n01440764"):
        _ = hundred(tmp_path).splits
    shutil.rmtree(tmp_path / "val")
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(UserError, match=r"holds 1 pictures and no class folders.*ground truth"):
        _ = hundred(tmp_path).splits
    with pytest.raises(UserError, match="train/<wnid>/"):
        _ = hundred(tmp_path / "nowhere").splits


def test_real_photographs_of_the_hundred_classes(tmp_path):
    photographs = shared_data("imagenet", "imagenet100_one_per_class")
    for split in ("train", "val"):
        (tmp_path / split).symlink_to(photographs)
    data = ImageNet100(tmp_path, CentreCrop(), RandomResizedCrop(), workers=0)
    batch = data.splits.test[slice(0, 3)]
    assert batch.images.shape == (3, 3, 224, 224)
    assert 0.02 < batch.images.std() < 0.5
    assert data.splits.test.labels.sort().values.tolist() == list(range(100))


ODD = {
    "a\nb": r"a\nb",
    "a\u2028b": r"a\u2028b",
    "\x1b[31m": r"\x1b[31m",
    os.fsdecode(b"\xff"): r"\udcff",
    "x\ny: é": r"x\ny: é",
}
"""Names of files, and how a line shows them."""


@pytest.mark.parametrize(("name", "workers"), [*((name, 0) for name in ODD), ("x\ny: é", 1)])
def test_a_refusal_is_one_line_that_begins_with_the_file_whatever_its_name_is_made_of(tree, name, workers, monkeypatch):
    file = tree / "test" / "bee" / f"{name}.png"
    file.write_bytes(b"")
    shown = f"{tree}/test/bee/{ODD[name]}.png"
    with pytest.raises(UserError) as refusal:
        _ = folder(tree).splits
    assert str(refusal.value) == f"{shown} is no picture, it is empty: fetch it again, or remove it"
    monkeypatch.setattr(pictures, "MAX_CHECKED", 0)
    with pytest.raises(pictures.UnreadablePicture) as refusal:
        list(DataLoader(folder(tree).splits.test, 4, collate_fn=lambda batch: batch, num_workers=workers))
    assert str(refusal.value) == f"{shown} is no picture, it is empty: fetch it again, or remove it"


@pytest.mark.parametrize("name", [*(f"{name}.txt" for name in ODD), os.fsdecode(b"a.\xff"), "a.x\ny"])
def test_what_is_left_out_is_one_line_of_utf_8_whatever_it_is_called(tree, name, capsysbinary):
    (tree / "test" / "bee" / name).write_text("no picture")
    _ = folder(tree).splits
    out = capsysbinary.readouterr().out.decode("utf-8")
    assert len(out.splitlines()) == 1
    assert out.startswith(f"warning: {tree / 'test'}: 1 files or folders are left out")


def test_links_to_themselves_and_to_each_other_are_left_out_or_refused(tree, capsys):
    bee = tree / "test" / "bee"
    (bee / "self").symlink_to("self")
    (bee / "one").symlink_to("other")
    (bee / "other").symlink_to("one")
    (tree / "test" / "loop").symlink_to("loop")
    assert len(folder(tree).splits.test) == 9
    assert "4 files or folders are left out" in capsys.readouterr().out
    (bee / "self.png").symlink_to("self.png")
    with pytest.raises(UserError, match=r"self.png cannot be read \(Too many levels of symbolic links\)"):
        _ = folder(tree).splits


def test_pictures_of_a_camera_with_two_frames_need_no_ending(tmp_path):
    """MPO is found by way of JPEG, and has no signature of its own."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            for number in range(2):
                paint(tmp_path / split / name / f"{number}.png", number)
    two = [Image.fromarray(np.full((16, 16, 3), grey, np.uint8)) for grey in (60, 200)]
    two[0].save(tmp_path / "test" / "a" / "camera", "MPO", save_all=True, append_images=two[1:])
    test = folder(tmp_path, classes=2, view=CentreCrop(16, 16)).splits.test
    assert len(test) == 5
    assert test[test.paths.index("test/a/camera")].images.mul(255).round().unique().tolist() == [60]


@pytest.mark.parametrize("error", [struct.error("unpack requires 2 bytes"), KeyError(273), EOFError(), TypeError("no")])
def test_whatever_a_decoder_raises_of_a_damaged_file_is_one_line(tree, error):
    file = tree / "test" / "bee" / "0.png"
    with pytest.raises(pictures.UnreadablePicture) as refusal, pictures.opened(file):
        raise error
    said = str(error) or "EOFError"
    assert str(refusal.value) == f"{file} is damaged or cut off ({said}): fetch it again, or remove it"

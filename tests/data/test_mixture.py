"""A second source in every training batch: its share, its order, its ids, and invalid sources."""

import json
import re
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gauntlet.config.build import build_data, build_training_data
from gauntlet.data import (
    ArrayFile,
    CentreCrop,
    Digits,
    EpochBatches,
    Examples,
    Joined,
    Mixed,
    MixedBatches,
    PictureFolder,
    RandomCrop,
    RandomFlip,
    TrainingExamples,
)
from gauntlet.errors import UserError
from gauntlet.noise import Noise
from tests.data.test_module import Stop, fit


def flat(steps):
    return [row for step in steps for row in step.rows]


def some(count, seed=1, size=32, channels=3):
    """Images of a second source, all with different pixels."""
    pixels = torch.randint(0, 256, (count, channels, size, size), generator=torch.Generator().manual_seed(seed))
    return Examples(pixels.to(torch.uint8), torch.arange(count) % 10, torch.arange(count))


@given(
    examples=st.integers(1, 60),
    others=st.integers(1, 70),
    share=st.floats(0.05, 0.95),
    batch=st.integers(2, 20),
    world=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_every_batch_holds_the_share_and_every_epoch_the_first_source_once(examples, others, share, batch, world, seed):
    whole = batch * world
    second = int(share * whole + 0.5)
    if not 0 < second < whole:
        with pytest.raises(ValueError, match="a whole example of either"):
            MixedBatches(examples, others, share, batch, seed, lambda: 0, 0, world)
        return
    alone = MixedBatches(examples, others, share, whole, seed, lambda: 0)
    ranks = [MixedBatches(examples, others, share, batch, seed, lambda: 0, rank, world) for rank in range(world)]
    steps = list(alone)
    assert len(steps) == len(alone)
    if not len(ranks[0]):  # fewer examples than processes
        return
    full = examples // (whole - second)
    assert all(sum(row >= examples for row in step.rows) == second for step in steps[:full])
    own = [row for row in flat(steps) if row < examples]
    assert len(set(own)) == len(own)
    assert examples - len(own) in ((0, 1) if full else (0,))  # a last batch of one example is none
    if steps[full:]:  # the last batch: the same share as near as it can be
        (last,) = steps[full:]
        assert abs(sum(row >= examples for row in last.rows) - share * len(last.rows)) <= 1
    for together, *parts in zip(steps, *ranks, strict=False):  # ranks may leave a last, too small batch out
        assert flat(parts) == together.rows
        assert all(abs(sum(row >= examples for row in part.rows) - share * len(part.rows)) <= 1 for part in parts)
    assert {len(rank) for rank in ranks} == {len(list(rank)) for rank in ranks} == {len(ranks[0])}
    assert len(alone) - len(ranks[0]) in (0, 1)


@pytest.mark.parametrize("others", [7, 40, 1000])
def test_the_second_source_is_shown_evenly_over_epochs_and_in_another_order_each_time(others):
    """103 of the first at 7 a batch of 10: 15 steps, 44 of the second an epoch."""
    epochs = [list(MixedBatches(103, others, 0.3, 10, 0, lambda e=e: 15 * e)) for e in range(30)]
    assert {len(epoch) for epoch in epochs} == {15}
    shown = [row - 103 for epoch in epochs for row in flat(epoch) if row >= 103]
    assert len(shown) == 30 * 44
    for start in range(0, len(shown) - others + 1, others):
        assert sorted(shown[start : start + others]) == list(range(others))
    assert shown[:others] != shown[others : 2 * others]
    own = [[row for row in flat(epoch) if row < 103] for epoch in epochs[:2]]
    assert own[0] != own[1]
    assert own[0] == flat(EpochBatches(103, 10, 0, lambda: 0))  # the dataset's own order stays


@pytest.mark.parametrize("done", [0, 1, 7, 14])
def test_a_resumed_epoch_is_the_rest_of_the_epoch(done):
    whole = list(MixedBatches(103, 40, 0.3, 10, 5, lambda: 4 * 15))
    assert list(MixedBatches(103, 40, 0.3, 10, 5, lambda: 4 * 15 + done)) == whole[done:]
    assert {step.epoch for step in whole} == {4}


def mixed(batch_size=400, share=0.25, others=None, **options):
    augmentation = [RandomCrop(3), RandomFlip()]
    return Mixed(
        Digits(batch_size, augmentation=augmentation), some(90) if others is None else others, share, **options
    )


def test_ids_of_two_sources_are_disjoint_and_images_are_those_of_their_ids():
    first, second = Digits().splits.train, some(50)
    joined = Joined(first, second)
    assert len(joined) == 1350
    assert joined.ids.unique().numel() == 1350
    rows = torch.tensor([1349, 0, 1300, 5, 1299, 1301])
    for batch in (joined[rows], joined.draw(rows, Noise(torch.arange(6))), joined.__getitems__(rows.tolist())):
        assert batch.ids.equal(joined.ids[rows])
        assert batch.labels.equal(joined.labels[rows])
        assert batch.images[[1, 3, 4]].equal(first[torch.tensor([0, 5, 1299])].images)
        assert batch.images[[0, 2, 5]].equal(second[torch.tensor([49, 0, 1])].images)
        assert batch.ids[[0, 2, 5]].tolist() == [-50, -1, -2]
    assert joined[3].images.equal(first[3].images)
    assert len(joined[slice(0, 0)].labels) == 0
    assert joined.digest() != Joined(first, some(50, seed=2)).digest()


def test_an_example_does_not_depend_on_its_batch():
    data = mixed()
    seen = TrainingExamples(data.training_split, data.augmentation, 3)
    step = next(iter(data.batches(lambda: 0)))
    whole = seen.__getitems__(step)
    part = seen.__getitems__(step._replace(rows=step.rows[7:19]))
    assert whole.images[7:19].equal(part.images)
    assert (whole.ids < 0).sum() == 100


@pytest.mark.parametrize("stop", [1, 3, 7])
def test_a_resume_within_an_epoch_gives_the_remaining_batches(tmp_path, stop):
    """1,300 digits, 300 in a batch of 400: five steps an epoch."""
    file = tmp_path / "stopped.ckpt"
    whole, _ = fit(tmp_path, mixed(), 2)
    with pytest.raises(Stop.Out):
        fit(tmp_path, mixed(), 2, callbacks=[Stop(stop, file)])
    rest, _ = fit(tmp_path, mixed(), 2, checkpoint=file)
    assert rest.shown == whole.shown[stop:]
    assert len(whole.shown) == 10
    assert whole.validated[: len(whole.validated) // 2] == Digits().splits.validation.ids.tolist()


def test_a_second_source_changes_the_training_fingerprint_only():
    plain, one, other = Digits(), mixed(), mixed(others=some(90, seed=2))
    assert plain.training_fingerprint == plain.fingerprint == one.fingerprint
    assert len({data.training_fingerprint for data in (plain, one, other)}) == 3
    assert one.splits.test.digest() == plain.splits.test.digest()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan"), 0.0001])
def test_an_invalid_share_is_refused(share):
    with pytest.raises(ValueError, match=r"share .*expected"):
        mixed(share=share)


def test_other_sizes_and_empty_sources_are_refused():
    with pytest.raises(ValueError, match=r"images \[3, 8, 8\]: expected the dataset's \[3, 32, 32\]"):
        mixed(others=some(9, size=8))
    with pytest.raises(ValueError, match="no examples"):
        mixed(others=some(0))


# where it comes from

IMAGE = torch.randint(0, 256, (20, 6, 5, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8).numpy()
LABEL = np.arange(20) % 4


def saved(file, **arrays):
    np.savez(file, **arrays)
    return file


def test_an_array_file_gives_its_images_and_labels(tmp_path):
    actual = ArrayFile(saved(tmp_path / "a.npz", image=IMAGE, label=LABEL.astype(np.int32))).load((3, 6, 5), 4)
    assert actual.shape == (3, 6, 5)
    assert actual.labels.tolist() == LABEL.tolist()
    batch = actual[torch.tensor([4, 0])]
    assert batch.images.equal(torch.from_numpy(IMAGE[[4, 0]]).permute(0, 3, 1, 2) / 255)
    assert batch.ids.tolist() == [4, 0]
    packed = tmp_path / "b.npz"
    np.savez_compressed(packed, image=IMAGE, label=LABEL, extra=np.zeros(3))
    again = ArrayFile(packed).load((3, 6, 5), 4)
    assert again.digest() == actual.digest()
    assert actual.digest() == Examples(actual.images.contiguous(), actual.labels, actual.ids).digest()
    grey = ArrayFile(saved(tmp_path / "g.npz", image=IMAGE[..., 0], label=LABEL)).load((1, 6, 5), 4)
    assert grey[0].images[0, 0].equal(torch.from_numpy(IMAGE[0, ..., 0]) / 255)


BAD = {
    "no image, but images, label": {"images": IMAGE, "label": LABEL},
    "no image and no label, but data": {"data": IMAGE},
    "image of .* is float32": {"image": IMAGE.astype(np.float32), "label": LABEL},
    r"is uint8 \[20, 3, 6, 5\]: expected uint8 \[N, 6, 5, 3\]": {"image": IMAGE.transpose(0, 3, 1, 2), "label": LABEL},
    r"is uint8 \[20, 6, 5\]": {"image": IMAGE[..., 0], "label": LABEL},
    r"is uint8 \[0, 6, 5, 3\]": {"image": IMAGE[:0], "label": LABEL[:0]},
    r"label of .* is int64 \[19\]: expected 20 integers": {"image": IMAGE, "label": LABEL[:19]},
    r"label of .* is float64 \[20\]": {"image": IMAGE, "label": LABEL / 2},
    "label of .* runs from 0 to 4: the dataset's 4 classes are 0 to 3": {"image": IMAGE, "label": np.arange(20) % 5},
    "label of .* runs from -1": {"image": IMAGE, "label": LABEL - 1},
    r"damaged or no \.npz of plain arrays": {"image": np.array([{}] * 20, dtype=object), "label": LABEL},
}


@pytest.mark.parametrize("words", BAD)
def test_an_array_file_of_other_arrays_is_refused_in_one_line(tmp_path, words):
    with pytest.raises(UserError, match=words) as refused:
        ArrayFile(saved(tmp_path / "a.npz", **BAD[words])).load((3, 6, 5), 4)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_npz_is_refused_in_one_line(tmp_path):
    whole = saved(tmp_path / "a.npz", image=IMAGE, label=LABEL).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").touch()
    (tmp_path / "text.npz").write_text("not an archive")
    np.save(tmp_path / "one.npy", IMAGE)
    for name, words in [
        *product(["cut.npz", "empty.npz", "text.npz", "one.npy"], ["damaged or no"]),
        ("none.npz", "there is no file"),
    ]:
        with pytest.raises(UserError, match=words) as refused:
            ArrayFile(tmp_path / name).load((3, 6, 5), 4)
        assert "\n" not in str(refused.value)


@pytest.fixture
def tree(tmp_path):
    """Ten class folders of two pictures each."""
    for label, which in product(range(10), range(2)):
        (tmp_path / "tree" / str(label)).mkdir(parents=True, exist_ok=True)
        pixels = np.full((40, 36, 3), 20 * label + which, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "tree" / str(label) / f"{which}.png")
    return tmp_path / "tree"


def test_a_folder_of_pictures_is_read_lazily(tree, tmp_path):
    source = PictureFolder(tree, CentreCrop(32, 32))
    others = source.load((3, 32, 32), 10)
    assert len(others) == 20
    data = mixed(batch_size=8, share=0.5, others=others)
    batch = TrainingExamples(data.training_split, (), 0).__getitems__(next(iter(data.batches(lambda: 0))))
    second = batch.ids < 0
    assert second.sum() == 4
    assert (batch.images[second][:, 0, 16, 16] * 255 / 20).floor().long().equal(batch.labels[second])
    watching, _ = fit(tmp_path, mixed(share=0.05, others=others, workers=1), 1)
    alone, _ = fit(tmp_path, mixed(share=0.05, others=others), 1)
    assert watching.shown == alone.shown
    before = others.digest()
    assert source.load((3, 32, 32), 10).digest() == before
    (tree / "3" / "1.png").write_bytes((tree / "3" / "1.png").read_bytes() + b"behind its end")
    assert source.load((3, 32, 32), 10).digest() != before


def test_a_folder_of_other_classes_is_refused(tree):
    with pytest.raises(UserError, match=r"10 class folders \(0, 1, 2 and 7 more\): expected the dataset's 4 classes"):
        PictureFolder(tree, CentreCrop(32, 32)).load((3, 32, 32), 4)
    with pytest.raises(UserError, match="there is no folder"):
        PictureFolder(tree / "none", CentreCrop(32, 32)).load((3, 32, 32), 4)
    (tree / "3" / "1.png").write_bytes(b"no picture at all")
    with pytest.raises(UserError, match=r"1.png is no picture, it begins with b'no picture a'"):
        PictureFolder(tree, CentreCrop(32, 32)).load((3, 32, 32), 10)
    for picture in (tree / "7").iterdir():
        picture.unlink()
    with pytest.raises(UserError, match="holds no pictures"):
        PictureFolder(tree, CentreCrop(32, 32)).load((3, 32, 32), 10)


# through the front door

SMALL = ("defense=normal", "attack_suite=clean", "trainer.max_epochs=1", "dataset.recipe.batch_size=200", "seed=3")


def extra(file, *words):
    return ("+extra@dataset.extra=npz", f"dataset.extra.root={file}", "dataset.extra.share=0.3", *words)


def test_a_second_source_is_part_of_a_run_s_identity_and_not_of_its_evaluation(door, outputs, tmp_path):
    from tests.conftest import QUICK

    pixels = some(60).images.permute(0, 2, 3, 1).numpy()
    file = saved(tmp_path / "generated.npz", image=pixels, label=np.arange(60) % 10)
    words = (*SMALL, *QUICK, f"outputs={outputs}")
    result = door("train", *words, *extra(file))
    assert result.code == 0, result.err
    (run,) = outputs.glob("digits/normal-*/*")
    card = json.loads((run / "card.json").read_text())
    assert card["fingerprint"] == Digits().fingerprint
    assert json.loads((run / "data.json").read_text())["fingerprint"] != Digits().fingerprint
    weights = (run / "checkpoints" / "final.safetensors").stat().st_mtime_ns

    moved = file.rename(tmp_path / "moved.npz")
    result = door("evaluate", f"checkpoint={run}", "attack_suite=clean", *QUICK[2:4])
    assert result.code == 0, result.err  # what is evaluated needs no second source
    result = door("train", *words, *extra(moved))
    assert result.code == 0, result.err
    assert (run / "checkpoints" / "final.safetensors").stat().st_mtime_ns == weights

    saved(moved, image=pixels, label=(np.arange(60) + 1) % 10)
    result = door("train", *words, *extra(moved))
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "holds a run on other data" in result.err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("dataset.extra.root=/nowhere.npz",), "there is no file /nowhere.npz"),
        (("dataset.extra.share=1.5",), r"dataset\.extra: share 1\.5"),
        (("+dataset.extra.ratio=3",), r"dataset\.extra has \['ratio'"),
        (
            ("dataset.extra.source._target_=gauntlet.data.CentreCrop", "~dataset.extra.root", "+dataset.extra.root=9"),
            "",
        ),
    ],
)
def test_an_invalid_second_source_is_refused_in_one_line(door, outputs, tmp_path, given, words):
    file = saved(tmp_path / "a.npz", image=np.zeros((30, 32, 32, 3), np.uint8), label=np.zeros(30, np.int64))
    result = door("train", *SMALL, f"outputs={outputs}", *extra(file), *given)
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert re.search(words, result.err), result.err


def test_a_second_source_without_a_root_is_refused(door, outputs):
    result = door("train", *SMALL, f"outputs={outputs}", "+extra@dataset.extra=npz")
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert "dataset.extra.root" in result.err


def test_a_folder_as_a_second_source_has_the_size_of_the_dataset(tree):
    from tests.defenses.regimes import composed

    words = ("+extra@dataset.extra=folder", f"dataset.extra.root={tree}", "dataset.extra.workers=0")
    config = composed("defense=normal", *words)
    data = build_training_data(config, build_data(config))
    assert len(data.training_split) == 1320
    assert data.share == 0.5
    assert data.training_split.shape == (3, 32, 32)

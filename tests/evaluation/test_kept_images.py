"""Kept images: one for every record, as its columns say; on survivors, after a kill, and when asked for later."""

from dataclasses import replace

import pytest
import torch

from gauntlet.evaluation import AttackSuite, Grid, Survivors
from gauntlet.kinds import Kind
from gauntlet.threats import Linf
from tests.evaluation import tiny
from tests.fixtures import LinearMargin

KEEP = replace(tiny.GRID, keep_images=True)
FAST = replace(tiny.GRID, mode=Survivors())


def kept(folder):
    """All images that lie in a folder, by example id."""
    images = {}
    for file in sorted(folder.path.glob("*.safetensors")):
        images |= folder.read_images(int(file.stem))
    return images


def same_images(one, other):
    return one.keys() == other.keys() and all(one[example].equal(other[example]) for example in one)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tiny.records(tiny.run(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny.run(tmp_path_factory.mktemp("whole"), KEEP)


def test_there_is_an_image_for_every_record_and_it_is_what_the_record_says(whole, plain):
    one = tiny.model()
    clean = dict(zip(one.examples.ids.tolist(), one.examples[slice(0, 40)].images, strict=True))
    records = tiny.records(whole)
    assert tiny.same(records, plain)  # keeping changes none
    for name, folder in whole.items():
        images = kept(folder)
        assert list(images) == records[name]["example_id"].to_list()
        stacked = torch.stack(list(images.values()))
        with torch.no_grad():
            assert one.classifier(stacked).argmax(1).tolist() == records[name]["prediction"].to_list()
        moved = [float((images[example] - clean[example]).abs().max()) for example in images]
        assert records[name]["linf"].to_list() == pytest.approx(moved, abs=1e-7)
        assert len(list(folder.path.glob("*.safetensors"))) == 5


def test_images_requested_later_are_computed_again_and_the_records_stay(whole, plain, tmp_path):
    tiny.run(tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))
    later = tiny.run(tmp_path, KEEP)
    assert tiny.same(tiny.records(later), plain)
    assert all(same_images(kept(later[name]), kept(whole[name])) for name in later)


def test_without_asking_nothing_is_kept_and_what_was_kept_is_not_measured_again(whole, tmp_path, monkeypatch):
    tiny.run(tmp_path, KEEP)
    monkeypatch.setattr("gauntlet.evaluation.runner.measure_chunk", None)  # nothing is left to be measured
    tiny.run(tmp_path, KEEP)
    tiny.run(tmp_path)


@pytest.mark.parametrize("missing", ["parquet", "safetensors"])
def test_a_chunk_of_which_a_kill_left_one_file_is_done_again(whole, plain, tmp_path, missing):
    folders = tiny.run(tmp_path, KEEP)
    for name in ("clean", "l2"):
        (folders[name].path / f"00002.{missing}").unlink()
    (folders["l2"].path / ".00002.safetensors.abc").write_bytes(b"half")  # of one that died while writing
    again = tiny.run(tmp_path, KEEP)
    assert tiny.same(tiny.records(again), plain)
    assert all(same_images(kept(again[name]), kept(whole[name])) for name in again)
    assert not list(tmp_path.rglob(".*.safetensors.*"))


@pytest.mark.parametrize("before", ["nothing", "records", "images"])
def test_survivors_keep_the_images_of_their_own_records(whole, tmp_path, before, monkeypatch):
    """Whether the records in full are there, with images or without, or not."""
    alone = tiny.records(tiny.run(tmp_path / "alone", FAST))
    if before != "nothing":
        tiny.run(tmp_path / "kept", KEEP if before == "images" else tiny.GRID)
    if before == "images":
        monkeypatch.setattr("gauntlet.evaluation.runner.measure_chunk", None)  # nothing is left to be measured
    folders = tiny.run(tmp_path / "kept", replace(FAST, keep_images=True))
    records = tiny.records(folders)
    for name in ("linf", "l2"):
        for column in ("example_id", "prediction", "correct", "inside", "linf"):
            assert records[name][column].equals(alone[name][column])
        images = kept(folders[name])
        assert list(images) == records[name]["example_id"].to_list()
        assert 0 < len(images) < 40
        every = kept(whole[name])
        assert all(images[example].allclose(every[example], atol=1e-6) for example in images)


def test_a_chunk_without_survivors_is_done_once(tmp_path, monkeypatch):
    """It has no images to keep, and is not taken for one that is missing."""
    attacks = {"linf": replace(tiny.attacks()["linf"], threat_model=Linf(1.0), steps=20), "l2": tiny.attacks()["l2"]}
    suite, grid = AttackSuite(attacks, aggregates=tiny.union_of(attacks)), replace(FAST, keep_images=True)
    folders = tiny.run(tmp_path, grid, suite_=suite)
    assert len(tiny.records(folders)["l2"]) == 0
    monkeypatch.setattr("gauntlet.evaluation.runner.measure_chunk", None)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    tiny.run(tmp_path, grid, suite_=suite)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")} == files


def test_a_certificate_has_no_image(tmp_path):
    from tests.evaluation import linear

    one, suite = linear.model(), AttackSuite({"far": linear.FAR}, {"margin": linear.MARGIN})
    folders = Grid(chunk=8, keep_images=True).run(one, suite, tmp_path, lambda _: None)
    assert len(kept(folders["far"])) == linear.COUNT
    assert LinearMargin.kind is Kind.CERTIFICATE
    assert not list(folders["margin"].path.glob("*.safetensors"))

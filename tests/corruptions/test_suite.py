"""Corruptions in the grid: records of every example, the same after a kill and in any chunk, from files where given."""

import numpy as np
import pytest
import torch
from torch import nn

from gauntlet.corruptions import TYPES, Contrast, Frost, ImpulseNoise, cifar10_c, corruption_suite, imagenet_c
from gauntlet.data import Examples
from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite, Grid, evaluate
from tests.evaluation.tiny import model, records, run, same

FEW = {
    "impulse_noise": [ImpulseNoise(share) for share in (0.01, 0.02, 0.03, 0.05, 0.07)],
    "contrast": [Contrast(factor) for factor in (0.75, 0.5, 0.4, 0.3, 0.15)],
}


def images(count=20, first=0):
    pixels = torch.randint(256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    return Examples(pixels, torch.arange(count) % 4, torch.arange(count) + first)


def test_names_order_and_union():
    suite = corruption_suite(FEW, "nowhere")
    assert list(suite.attacks)[:3] == ["clean", "impulse_noise_1", "impulse_noise_2"]
    assert len(suite.attacks) == 11
    assert not suite.union
    assert suite.attacks["contrast_4"].operation == Contrast(0.3)
    assert imagenet_c(FEW, "nowhere").attacks["contrast_4"].jpeg == 85
    assert cifar10_c(FEW, "nowhere").attacks["contrast_4"].jpeg is None


def test_records_are_inside_and_the_same_after_a_kill_and_in_other_chunks(tmp_path):
    suite, bright_model = corruption_suite(FEW, "nowhere"), model(examples=images())
    grid = Grid(chunk=8)
    folders = run(tmp_path / "one", grid, bright_model, suite)
    first = records(folders)
    assert all(frame["inside"].all() for frame in first.values())
    assert first["contrast_5"]["linf"].min() > 0.3
    assert not first["impulse_noise_1"]["l2"].equals(first["impulse_noise_2"]["l2"])
    for name in ("contrast_2", "impulse_noise_5"):
        (folders[name].path / "00001.parquet").unlink()
    assert same(first, records(run(tmp_path / "one", grid, bright_model, suite)))
    assert same(first, records(run(tmp_path / "two", Grid(chunk=20), bright_model, suite)))


def test_seeds_follow_the_example_and_not_its_place(tmp_path):
    suite, all_examples = corruption_suite(FEW, "nowhere"), images()
    rows = torch.tensor([7, 3, 11])
    some = Examples(*(part[rows] for part in (all_examples.images, all_examples.labels, all_examples.ids)))
    whole = records(run(tmp_path / "all", Grid(), model(examples=all_examples), suite))["impulse_noise_3"]
    part = records(run(tmp_path / "some", Grid(), model(examples=some), suite))["impulse_noise_3"]
    assert part.equals(whole.filter(whole["example_id"].is_in([3, 7, 11])), null_equal=True)


def test_frost_without_photographs_and_types_set_to_none_are_left_out(tmp_path):
    cells = [Frost(1, ice, 5, str(tmp_path)) for ice in (0.2, 0.3, 0.4, 0.5, 0.6)]
    suite = corruption_suite({**FEW, "frost": cells, "contrast": None}, str(tmp_path))
    assert {name.rpartition("_")[0] for name in suite.attacks} == {"", "impulse_noise"}
    with pytest.raises(UserError, match=f"no corruption is left.*frost needs photographs in {tmp_path}"):
        corruption_suite({"frost": cells}, str(tmp_path))
    with pytest.raises(UserError, match=r"corruptions \['fogg'\]: expected some of gaussian_noise"):
        corruption_suite({"fogg": cells}, str(tmp_path))
    with pytest.raises(UserError, match="contrast has 4 severities: expected 5"):
        corruption_suite({"contrast": FEW["contrast"][:4]}, str(tmp_path))


class Bright(nn.Module):
    """Four classes by how bright an image is: what it says tells what it saw."""

    def forward(self, pictures):
        level = pictures.mean((1, 2, 3)) * 4
        return -(level[:, None] - torch.arange(4) - 0.5).abs()


def test_published_files_are_what_the_classifier_sees(tmp_path, monkeypatch):
    count = 12
    monkeypatch.setattr("gauntlet.corruptions.cifar10_c_files._TEST", count)
    data = images(count, first=50_000)
    classes = np.random.default_rng(0).integers(4, size=5 * count)
    arrays = np.broadcast_to((classes * 64 + 30).astype(np.uint8)[:, None, None, None], (5 * count, 32, 32, 3))
    for kind in TYPES:
        np.save(tmp_path / f"{kind}.npy", arrays)
    np.save(tmp_path / "labels.npy", np.tile(data.labels.numpy(), 5))
    suite = cifar10_c(dict.fromkeys(TYPES, FEW["contrast"]), "nowhere", str(tmp_path))
    assert len(suite.attacks) == 76  # frost too: it needs no photographs here
    few = {name: suite.attacks[name] for name in ("clean", "frost_2", "fog_5")}
    result = evaluate(Bright(), data, AttackSuite(few), Grid(chunk=5))
    assert result["frost_2"]["prediction"].to_list() == classes[count : 2 * count].tolist()
    assert result["fog_5"]["prediction"].to_list() == classes[4 * count :].tolist()
    assert result["fog_5"]["inside"].all()

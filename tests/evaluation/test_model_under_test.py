"""Who goes through the grid: its distances are read once, and what they read is part of the records' identity."""

from dataclasses import replace

import pytest
import torch

from gauntlet.attacks import PGD
from gauntlet.data import Examples
from gauntlet.distances.calibrated import CalibratedLPIPS
from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite, read_records
from gauntlet.runs.evaluation import build_calibrated
from gauntlet.threats import Linf
from gauntlet.transforms import Clean
from tests.evaluation import tiny
from tests.fixtures import shared_data, tapped

SUITE = AttackSuite({"clean": Clean(), "linf": PGD(threat_model=Linf(0.1), steps=1)})


@pytest.fixture
def weights():
    return shared_data("weights", "lpips", "alexnet_features_torchvision_v1.npz")


def model(**changes):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (16, 3, 32, 32), generator=generator, dtype=torch.uint8)
    examples = Examples(images, torch.arange(16) % 4, torch.arange(16))
    return tiny.model(classifier=tapped(), examples=examples, **changes)


def test_the_calibrated_distance_is_read_once_and_measured_in_every_record(weights, tmp_path, monkeypatch):
    load, times = CalibratedLPIPS._load, []
    monkeypatch.setattr(CalibratedLPIPS, "_load", lambda self: times.append(1) or load(self))
    calibrated = CalibratedLPIPS(weights)
    tested = model(calibrated=calibrated)
    folders = tiny.run(tmp_path, subject_=tested, suite_=SUITE)
    assert len(times) == 1
    clean, linf = (read_records(folders[name].path, folders[name].kind)["lpips"] for name in ("clean", "linf"))
    assert (clean == 0).all()
    batch = tested.examples[slice(0, 8)]  # a chunk
    noise = tiny.GRID.noise(SUITE.attacks["linf"], batch)
    adversarial = SUITE.attacks["linf"].run(tested.classifier, batch, noise).images
    assert linf[:8].to_list() == pytest.approx(calibrated(batch.images, adversarial).tolist(), rel=1e-4)
    assert linf.min() > 0


def test_a_file_that_is_named_is_part_of_the_identity_and_torchvisions_own_is_not(tmp_path):
    for name in ("one.npz", "copy.npz", "other.npz"):
        (tmp_path / name).write_bytes(b"other" if name == "other.npz" else b"one")

    def folder_of(tested):
        return tiny.GRID.folders(tested, SUITE, tmp_path)["linf"]

    own = folder_of(model())
    one, copy, other = (
        folder_of(model(calibrated=CalibratedLPIPS(tmp_path / name))) for name in ("one.npz", "copy.npz", "other.npz")
    )
    assert one.path == copy.path
    assert len({own.path, one.path, other.path}) == 3
    assert "calibrated" not in own.identity


def test_a_file_that_is_not_there_is_refused_and_none_is_torchvisions(tmp_path):
    with pytest.raises(UserError, match=r"calibrated_lpips=.*nowhere.npz: there is no such file"):
        build_calibrated({"calibrated_lpips": str(tmp_path / "nowhere.npz")})
    assert build_calibrated({"calibrated_lpips": None}).digest is None
    assert build_calibrated({}).file == CalibratedLPIPS().file  # run folders of before the option


def test_at_least_one_example_is_probed():
    assert replace(tiny.GRID, probed=1).probed == 1
    with pytest.raises(ValueError, match="probed 0: expected at least 1"):
        replace(tiny.GRID, probed=0)

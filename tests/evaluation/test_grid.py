"""The grid verifies every attack, and records the result for every example."""

from dataclasses import dataclass

import polars as pl
import pytest
import torch

from gauntlet.attacks import PGD, Adversarial, Attack, FastLagrangianPerceptualAttack, OntoRegion
from gauntlet.data import Digits
from gauntlet.distances import LPIPS
from gauntlet.evaluation import SCHEMAS, AttackSuite, Grid, ModelUnderTest, Union, read_records
from gauntlet.kinds import Kind
from gauntlet.models import alexnet_cifar, small_resnet
from gauntlet.threats import L2, Linf, NeuralPerceptual
from gauntlet.transforms import Clean


def made_subject(**changes):
    torch.manual_seed(0)
    classifier = small_resnet(10, [0.3] * 3, [0.3] * 3, width=4).eval()
    reference = LPIPS(alexnet_cifar(10))
    data = Digits()
    parts = {"checkpoint": "c0ffee", "fingerprint": data.fingerprint, "examples": data.splits.test, **changes}
    return ModelUnderTest(classifier=classifier, reference=reference, **parts)


def made_suite(model, steps=3):
    perceptual = NeuralPerceptual(model.reference, 0.3)
    attacks = {
        "clean": Clean(),
        "linf": PGD(threat_model=Linf(0.03), steps=steps),
        "l2": PGD(threat_model=L2(0.5), steps=steps),
        "perceptual": FastLagrangianPerceptualAttack(threat_model=perceptual, steps=2, projection=OntoRegion()),
    }
    return AttackSuite(attacks, aggregates={"union": Union(["clean", "linf", "l2"])})


def run(grid, root, model=None, suite=None, done=lambda *_: None):
    model = model or made_subject()
    return grid.run(model, suite or made_suite(model), root, done)


def records(folders):
    return {name: read_records(folder.path, folder.kind).drop("seconds") for name, folder in folders.items()}


def same(one, other):
    return one.keys() == other.keys() and all(frame.equals(other[name], null_equal=True) for name, frame in one.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return records(run(Grid(chunk=16, examples=50), tmp_path_factory.mktemp("whole")))


def test_records_say_what_happened_to_every_example(whole):
    test = Digits().splits.test
    for name, frame in whole.items():
        assert list(frame.columns) == [column for column in SCHEMAS[Kind.ATTACK] if column != "seconds"]
        assert frame["example_id"].to_list() == sorted(test.ids[:50].tolist())
        assert frame["inside"].all()
        assert name == "clean" or (frame["size"] <= 1 + 1e-4).all()
        assert (frame["correct"] <= (frame["clean_prediction"] == frame["label"])).all()
        assert ((frame["margin"] > 0) == (frame["prediction"] == frame["label"])).all(), name
    assert (whole["clean"]["linf"] == 0).all()
    assert whole["linf"]["linf"].max() <= 0.03 + 1e-6
    assert whole["linf"]["linf"].max() > 0.029
    assert whole["l2"]["l2"].max() <= 0.5 + 1e-5
    assert whole["perceptual"]["perceptual"].max() <= 0.3 + 1e-5
    assert whole["linf"]["perceptual"].min() > 0


def test_chunks_hardly_matter(whole, tmp_path):
    """In float32 other batch sizes may turn examples of tiny margin, and no others."""
    other = records(run(Grid(chunk=50, examples=50), tmp_path))
    for name, frame in whole.items():
        turned = frame.filter(frame["correct"] != other[name]["correct"])
        assert (turned["margin"].abs() < 1e-3).all()


def test_another_identity_is_another_folder(tmp_path):
    model = made_subject()
    suite, grid = made_suite(model), Grid(chunk=16, examples=16)
    base = grid.folders(model, suite, tmp_path)["linf"].path
    others = [
        Grid(chunk=8, examples=16).folders(model, suite, tmp_path),
        Grid(chunk=16, examples=16, seed=1).folders(model, suite, tmp_path),
        grid.folders(made_subject(checkpoint="other"), suite, tmp_path),
        grid.folders(made_subject(fingerprint="other"), suite, tmp_path),
        grid.folders(model, made_suite(model, steps=4), tmp_path),
    ]
    assert len({base, *(folders["linf"].path for folders in others)}) == 6
    assert grid.folders(made_subject(), made_suite(made_subject()), tmp_path)["linf"].path == base


@dataclass(frozen=True)
class Liar(Attack):
    """Claims to stay inside, and does not."""

    threat_model: Linf
    way: str

    def __call__(self, classifier, images, labels, *, seeds=None):
        noise = 0.5 * torch.ones_like(images)
        far = (images + noise).clamp(0, 1) if self.way == "too far" else images + noise
        params = torch.zeros_like(images) if self.way == "other params" else far - images
        if self.way == "NaN":
            far = far * torch.nan
        return Adversarial(far, params, torch.zeros(len(images)))


@pytest.mark.parametrize("way", ["too far", "other params", "outside [0, 1]", "NaN"])
def test_an_image_that_is_not_inside_is_recorded_and_never_a_success(tmp_path, way):
    model = made_subject()
    suite = AttackSuite({"clean": Clean(), "liar": Liar(Linf(0.01), way)})
    result = records(run(Grid(chunk=16, examples=16), tmp_path, model, suite))
    assert not result["liar"]["inside"].any()
    assert result["liar"]["correct"].equals(result["clean"]["correct"])


def test_a_union_of_unknown_entries_or_of_attacks_that_leave_the_threat_model_is_refused():
    with pytest.raises(ValueError, match="fog"):
        AttackSuite({"clean": Clean()}, aggregates={"union": Union(["fog"])})
    free = FastLagrangianPerceptualAttack(threat_model=NeuralPerceptual(LPIPS(alexnet_cifar(10)), 0.5))
    with pytest.raises(ValueError, match="projection"):
        AttackSuite({"free": free}, aggregates={"union": Union(["free"])})


def test_a_damaged_file_is_named(tmp_path):
    from gauntlet.errors import UserError

    folder = run(Grid(chunk=16, examples=16), tmp_path)["clean"]
    file = next(folder.path.glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"00000.parquet is damaged"):
        read_records(folder.path, folder.kind)


@pytest.mark.parametrize("kind", Kind)
def test_no_records_are_an_empty_table_of_the_schema(tmp_path, kind):
    assert read_records(tmp_path, kind).schema == pl.Schema(SCHEMAS[kind])

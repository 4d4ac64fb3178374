"""Networks of all kinds are refused in a line, or the numbers of their records are right."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from gauntlet.attacks import APGD, FAB, PGD, SparseAPGD, Square
from gauntlet.data import Examples
from gauntlet.errors import AttackFailed, UserError
from gauntlet.evaluation import AttackSuite, Grid, ModelUnderTest, clean_check, evaluate, measure_chunk, probe
from gauntlet.goals import RandomTarget, RankedTargets, Untargeted
from gauntlet.losses import DLR, CrossEntropy
from gauntlet.models import logits_of
from gauntlet.threats import L1, L2, Linf, StAdv
from gauntlet.transforms import Clean
from tests.fuzz.networks import (
    CHOICES,
    CLASSES,
    DEAD,
    SHAPE,
    Network,
    has_slope,
    logits_by_another_way,
    may_refuse,
    network_specs,
    plain_equivalent,
    refused,
)
from tests.fuzz.settings import cases

COUNT = 6
ATTACKS = {
    "pgd linf": PGD(threat_model=Linf(0.1), steps=3, step_size=0.5),
    "pgd l2": PGD(threat_model=L2(0.5), steps=3, step_size=0.5, goal=Untargeted(CrossEntropy()), restarts=2),
    "pgd target": PGD(threat_model=Linf(0.1), steps=3, step_size=0.5, goal=RandomTarget()),
    "apgd": APGD(threat_model=Linf(0.05), steps=4),
    "apgd dlr": APGD(threat_model=L2(0.4), steps=4, goal=Untargeted(DLR())),
    "apgd ranked": APGD(threat_model=Linf(0.1), steps=3, goal=RankedTargets()),
    "sparse apgd": SparseAPGD(threat_model=L1(2.0), steps=4),
    "fab": FAB(threat_model=Linf(0.1), steps=3),
    "fab l1": FAB(threat_model=L1(2.0), steps=3),
    "square": Square(threat_model=Linf(0.1), queries=6),
    "stadv": PGD(threat_model=StAdv(0.1), steps=3, step_size=0.5),
}
RANKED = {"apgd ranked", "fab", "fab l1"}
NEAR = 1e-5  # of the largest logit: what rounding may decide


def examples(spec, seed):
    """Images with flat parts, and labels of which one is wrong; any labels where there is nothing to be right about."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (COUNT, *SHAPE), generator=generator, dtype=torch.uint8)
    images[: COUNT // 2, :, :2] = 0
    images[:, 0, 0, 0].clamp_(max=230)
    labels = torch.randint(CLASSES, (COUNT,), generator=generator)
    if not refused(spec):
        logits = logits_by_another_way(spec, images.float() / 255)
        right = logits[:, :CLASSES].nan_to_num(nan=0).argmax(1)
        labels = torch.cat((labels[:1].clamp(max=logits.shape[1] - 1), right[1:]))
    return Examples(images, labels, torch.arange(COUNT) * 7 + 3)


def measured(spec, split, suite, chunk, folder=None):
    """Records by entry and the images they are about: of a folder by the library's one call, else chunk by chunk."""
    network = Network(spec)
    modes = [part.training for part in network.modules()]
    wishes = [parameter.requires_grad for parameter in network.parameters()]
    grid = Grid(chunk=chunk, keep_images=True)
    if folder is None:
        found = {
            name: by_chunks(ModelUnderTest(network, "", split, ""), entry, grid)
            for name, entry in suite.entries.items()
        }
        records, images = {name: one[0] for name, one in found.items()}, {name: one[1] for name, one in found.items()}
    else:
        records = evaluate(network, split, suite, grid, folder=folder)
        images = {name: kept(folder, name) for name in records}
    assert [part.training for part in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == wishes
    assert all(parameter.grad is None for parameter in network.parameters())
    return records, images


def by_chunks(model, entry, grid):
    clean_check(model, slice(0, grid.chunk))
    chunks = []
    for start in range(0, COUNT, grid.chunk):
        batch = model.examples[slice(start, start + grid.chunk)]
        chunks.append(measure_chunk(model, entry, batch, grid.noise(entry, batch)))
    return pl.concat([chunk.records for chunk in chunks]), torch.cat([chunk.images for chunk in chunks])


def kept(folder, name):
    images = {}
    for file in sorted(folder.glob(f"{name}-*/*.safetensors")):
        content = load(file.read_bytes())
        images |= dict(zip(content["example_id"].tolist(), content["images"], strict=True))
    return torch.stack([images[example] for example in sorted(images)])


def classes_of(spec, images):
    """Predictions by another way, `[N]`, and where rounding may decide otherwise."""
    logits = logits_by_another_way(spec, images).double().numpy()
    assert not np.isnan(logits).any()
    top = np.sort(np.where(np.isinf(logits), np.sign(logits) * 1e300, logits), 1)[:, -2:]
    exact = spec.ties in ("constant", "twins", "integers") or spec.end in ("softmax", "sigmoid")
    near = top[:, 1] - top[:, 0] <= max(NEAR, resolution(spec)) * np.abs(top).max(1).clip(1e-30)
    return logits.argmax(1), near & ((top[:, 1] != top[:, 0]) | (resolution(spec) > NEAR) | ~np.array(exact))


def resolution(spec):
    """Of matrix products in the weights' dtype, in which another batch may round otherwise."""
    return {"bfloat16": 0.1, "float16": 0.02, "float32": 1e-4}.get(spec.weights, 0.0)


def inside(name, images, clean):
    """Whether images are in the threat model of an attack, `[N]`, by numpy alone."""
    change = (images.double() - clean.double()).flatten(1).abs().numpy()
    in_box = ((images >= 0) & (images <= 1)).flatten(1).all(1).numpy()
    threat = ATTACKS[name].threat_model if name in ATTACKS else None
    size = {Linf: change.max(1), L2: np.sqrt((change**2).sum(1)), L1: change.sum(1)}.get(type(threat))
    if threat is None:
        return in_box & (change.max(1) == 0)
    return in_box if size is None else in_box & (size <= threat.bound * (1 + 1e-4))


def check_numbers(spec, split, records, images):
    clean = split[slice(0, COUNT)].images
    labels = split.labels.numpy()
    for name, frame in records.items():
        assert frame["example_id"].to_list() == split.ids.tolist()
        assert inside(name, images[name], clean).all(), name
        assert frame["inside"].all(), name
        before, near = classes_of(spec, clean)
        after, nearby = classes_of(spec, images[name])
        assert ((frame["clean_prediction"].to_numpy() == before) | near).all(), name
        assert ((frame["prediction"].to_numpy() == after) | nearby).all(), name
        right = (frame["clean_prediction"].to_numpy() == labels) & (frame["prediction"].to_numpy() == labels)
        assert (frame["correct"].to_numpy() == right).all(), name
        assert not np.isnan(frame["margin"].to_numpy()).any(), name


NAMES = st.lists(st.sampled_from(sorted(ATTACKS)), min_size=1, max_size=2, unique=True)


@cases(few=30)
def test_a_network_is_refused_in_a_line_or_its_numbers_are_right(profile, tmp_path):
    @profile
    @given(network_specs(), NAMES, st.integers(0, 5), st.sampled_from([1, 2, 4]), st.integers(0, 9))
    def check(spec, names, seed, chunk, way):
        folder = Path(tempfile.mkdtemp(dir=tmp_path)) if not way else None
        split = examples(spec, seed)
        suite = AttackSuite({"clean": Clean(), **{name: ATTACKS[name] for name in names}})
        try:
            records, images = measured(spec, split, suite, COUNT, folder)
        except (UserError, AttackFailed) as refusal:
            line = str(refusal)
            assert len(line.splitlines()) == 1
            assert refused(spec) or may_refuse(spec) or not has_slope(spec) or spec.batch == "batch norm", line
            if not refused(spec) and not has_slope(spec):
                assert "the classifier's answer has no gradient" in line or may_refuse(spec), line
            assert "NaN" not in line or spec.broken != "none" or may_refuse(spec), line
            return
        assert not refused(spec)
        assert has_slope(spec) or not any(records[name]["correct"].any() for name in names if name != "square")
        if spec.batch == "alone":
            check_numbers(spec, split, records, images)
            if resolution(spec) == 0:
                check_same(records, images, measured(spec, split, suite, chunk))
                check_same(records, images, measured(plain_equivalent(spec, RANKED & {*names}), split, suite, COUNT))
        else:
            check_clean_of_a_batch(spec, split, records)

    check()


def check_same(records, images, others):
    """The same numbers and images for every example: from other batches, or of a network with the same logits."""
    for name, frame in records.items():
        other = others[0][name]
        for column in ("correct", "prediction", "clean_prediction", "inside"):
            assert frame[column].equals(other[column]), (name, column)
        assert images[name].allclose(others[1][name], rtol=0, atol=1e-6), name


def check_clean_of_a_batch(spec, split, records):
    """A network whose answer depends on the batch is measured as it answers for the chunk."""
    network = Network(spec).eval()
    with torch.no_grad():
        answer = logits_of(network, split[slice(0, COUNT)].images).argmax(1)
    assert records["clean"]["clean_prediction"].to_list() == answer.tolist()


@cases(few=15)
def test_probabilities_and_answers_that_depend_on_the_batch_are_flagged(profile):
    @profile
    @given(network_specs(2), CHOICES["end"], CHOICES["batch"], st.integers(0, 5))
    def check(spec, end, dependence, seed):
        spec = replace(spec, end=end, batch=dependence)
        split = examples(spec, seed)
        batch = split[slice(0, COUNT)]
        try:
            flags = {flag.name: flag.raised for flag in probe(Network(spec), AttackSuite({}), batch)}
        except UserError as refusal:
            line = str(refusal)
            assert len(line.splitlines()) == 1
            assert refused(spec) or may_refuse(spec) or spec.batch != "alone", line
            return
        if spec.broken == "none" and spec.batch == "alone":
            logits = logits_by_another_way(spec, batch.images)
            bounded = ((logits >= 0) & (logits <= 1) | (logits == DEAD)).all(1).double().mean() > 0.5
            assert flags["logits"] == bounded, flags
            assert bounded or spec.end not in ("softmax", "sigmoid")
            assert not flags["deterministic"]
            assert resolution(spec) > NEAR or not flags["batch"], flags
        if spec.batch != "alone" and spec.ties == "none" and spec.broken == "none" and spec.body != "flat":
            assert flags["batch"] or spec.end == "softmax" or resolution(spec) > NEAR, flags

    check()

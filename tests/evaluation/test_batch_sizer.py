"""A chunk that does not fit into memory is done in parts, and memory never runs out twice at the same size."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gauntlet.attacks import PGD, Attack
from gauntlet.errors import AttackFailed, UserError
from gauntlet.evaluation import AttackSuite, Grid, measure_chunk
from gauntlet.noise import Noise
from gauntlet.threats import Linf
from tests.evaluation.tiny import attacks, model, records, run, same, suite


@dataclass(frozen=True)
class Hungry(Attack):
    """An attack for which there is memory for so many examples and no more."""

    attack: PGD
    most: int

    def __post_init__(self):
        object.__setattr__(self, "batch_sizes", [])  # no field: it is no part of what the attack is

    @property
    def threat_model(self):
        return self.attack.threat_model

    def __call__(self, classifier, images, labels, *, seeds=None):
        self.batch_sizes.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore of it")
        return self.attack(classifier, images, labels, seeds=seeds)


def hungry(most):
    return Hungry(attacks()["linf"], most)


def test_the_whole_chunk_is_restarted_in_halves_and_later_chunks_start_with_the_size_that_fits(tmp_path):
    attack = hungry(most=3)
    run(tmp_path, Grid(chunk=20), suite_=AttackSuite({"linf": attack}))
    assert attack.batch_sizes == [20, 10, 5, *[2] * 20]


class OneByOne(nn.Module):
    """Sees every image alone: on some processors the sums of a batch round otherwise than those of its parts."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return torch.cat([self.network(image) for image in images.split(1)])


def test_the_records_are_those_of_the_whole_chunk():
    """Of a classifier for which parts change nothing."""
    one = model(classifier=OneByOne(model().classifier))
    batch = one.examples[slice(0, 20)]
    noise = Noise(torch.arange(20))
    whole, parted = (measure_chunk(one, attack, batch, noise) for attack in (attacks()["linf"], hungry(3)))
    assert whole.records.drop("seconds").equals(parted.records.drop("seconds"))
    assert whole.images.equal(parted.images)


def test_another_attack_starts_with_whole_chunks():
    one = model()
    batch, small, large = one.examples[slice(0, 8)], hungry(3), hungry(100)
    large = replace(large, attack=PGD(threat_model=Linf(0.2), steps=2))
    for attack in (small, large):
        measure_chunk(one, attack, batch, Noise(torch.arange(8)))
    assert small.batch_sizes == [8, 4, 2, 2, 2, 2]
    assert large.batch_sizes == [8]


def test_no_memory_for_one_example_is_a_failure_in_one_line(tmp_path):
    with pytest.raises(AttackFailed, match=r"no memory for a single example \(CUDA out of memory. Tried .* GiB.\)$"):
        measure_chunk(model(), hungry(0), model().examples[slice(0, 3)], Noise(torch.arange(3)))
    both = suite(linf=hungry(0))
    with pytest.raises(UserError, match=r"linf .*no memory"):
        run(Path(tmp_path), suite_=both)


def test_the_same_bits_whenever_memory_runs_out(tmp_path):
    """A run that goes on at the second chunk finds out anew how much fits, and writes what the first would have."""
    grid, parted = Grid(chunk=20), lambda: AttackSuite({"linf": hungry(3)})
    at_once = run(tmp_path / "once", grid, suite_=parted())
    run(tmp_path / "twice", grid, suite_=parted())
    first = sorted((tmp_path / "twice").rglob("*.parquet"))[0]
    first.unlink()
    again = run(tmp_path / "twice", grid, suite_=parted())
    assert same(records(at_once), records(again))


def test_an_empty_batch_fits_into_memory():
    records, images = measure_chunk(model(), hungry(3), model().examples[slice(0, 0)], Noise(torch.arange(0)))
    assert records.is_empty()
    assert len(images) == 0

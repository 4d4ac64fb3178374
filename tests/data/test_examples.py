"""The order of training is a function of (seed, epoch), can be resumed, and is shared without overlap."""

import pytest
import torch

from gauntlet.data import Digits, EpochBatches


def flat(steps):
    return [row for step in steps for row in step.rows]


def test_an_epoch_has_every_example_once_in_its_own_order():
    first, second = (flat(EpochBatches(103, 10, 0, lambda e=e: e * 11)) for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(103))
    assert first != second
    assert first == flat(EpochBatches(103, 10, 0, lambda: 0))
    assert first != flat(EpochBatches(103, 10, 1, lambda: 0))


@pytest.mark.parametrize("done", [0, 1, 7, 10])
def test_a_resumed_epoch_is_the_rest_of_the_epoch(done):
    whole = list(EpochBatches(103, 10, 5, lambda: 2 * 11))
    assert list(EpochBatches(103, 10, 5, lambda: 2 * 11 + done)) == whole[done:]
    assert {step.epoch for step in whole} == {2}


@pytest.mark.parametrize(("examples", "world"), [(103, 1), (103, 2), (103, 3), (100, 3), (101, 3)])
def test_processes_share_the_steps_of_one(examples, world):
    alone = list(EpochBatches(examples, 12, 0, lambda: 0))
    ranks = [list(EpochBatches(examples, 12 // world, 0, lambda: 0, rank, world)) for rank in range(world)]
    assert {len(rank) for rank in ranks} == {len(EpochBatches(examples, 12 // world, 0, lambda: 0, 0, world))}
    for together, parts in zip(alone, zip(*ranks, strict=True), strict=False):
        assert flat(parts) == together.rows
        assert all(part.rows and part.epoch == together.epoch for part in parts)


@pytest.mark.parametrize(
    ("examples", "batch_size", "world", "steps"),
    [
        (1300, 433, 1, 3),  # the last would be of one
        (1301, 433, 1, 4),
        (1299, 433, 1, 3),
        (13, 3, 2, 2),
        (15, 3, 2, 2),  # the last would be of two and one
        (16, 3, 2, 3),
        (5, 1, 1, 5),  # all are of one
        (5, 1, 2, 2),
        (1, 50, 1, 1),  # there is no other
        (3, 50, 2, 1),
        (3, 50, 4, 0),
    ],
)
def test_no_step_is_of_one_example_a_process_unless_all_are(examples, batch_size, world, steps):
    """Batch norm cannot be trained on one. Another example is left out in every epoch."""
    for epoch in range(2):
        ranks = [EpochBatches(examples, batch_size, 0, lambda e=epoch: e * steps, r, world) for r in range(world)]
        assert {len(rank) for rank in ranks} == {steps}
        if not steps:
            return
        sizes = [len(step.rows) for rank in ranks for step in rank]
        assert len(sizes) == steps * world
        assert min(sizes) == ranks[0].smallest()
        assert min(sizes) >= (1 if batch_size == 1 or steps == 1 else 2)
    shown = [{row for step in EpochBatches(1300, 433, 0, lambda e=e: 3 * e) for row in step.rows} for e in range(2)]
    assert shown[0] != shown[1]
    assert all(len(rows) == 1299 for rows in shown)


def test_digits_are_split_by_id_and_never_twice():
    data = Digits()
    ids = [split.ids for split in data.splits]
    assert [len(part) for part in ids] == [1300, 97, 400]
    assert torch.cat(ids).sort().values.equal(torch.arange(1797))
    assert all(set(split.labels.tolist()) == set(range(10)) for split in data.splits)
    assert data.fingerprint == Digits(batch_size=7, seed=3).fingerprint
    assert data.fingerprint != Digits(size=28).fingerprint


def test_digits_are_the_scans_of_scikit_learn():
    from sklearn.datasets import load_digits

    scans = torch.tensor(load_digits().images)
    batch = Digits(size=8).splits.test[slice(0, 50)]
    assert batch.images.shape == (50, 3, 8, 8)
    assert torch.allclose(batch.images[:, 0].double(), scans[batch.ids] / 16, atol=1 / 255)
    assert batch.images[:, 0].equal(batch.images[:, 2])


def test_invalid_sizes_and_batches_are_refused():
    with pytest.raises(ValueError, match="at least 8"):
        Digits(size=4)
    with pytest.raises(ValueError, match="batch_size 0"):
        Digits(batch_size=0)

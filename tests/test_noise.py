"""Noise belongs to the example: the same numbers in any batch, and good ones."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gauntlet.noise import Noise, fresh_seeds, mix

MASK = (1 << 64) - 1
integers = st.integers(-(1 << 63), (1 << 63) - 1)


def splitmix(word):
    """SplitMix64's next output from a state, in Python's own integers."""
    word = (word + 0x9E3779B97F4A7C15) & MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def test_mix_gives_the_published_first_outputs_of_splitmix64():
    """The test vector in circulation for the seed 1234567."""
    assert mix(1234567).item() & MASK == 6457827717110365317
    assert mix(1234567 - 0x61C8864680B583EB).item() & MASK == 3203168211198807973


@settings(deadline=None)
@given(st.lists(integers, min_size=1, max_size=4))
def test_mix_is_splitmix64_chained_over_its_parts(parts):
    word = 0
    for part in parts:
        word = splitmix((word * 3 + part) & MASK)
    assert mix(*parts).item() & MASK == word


@settings(deadline=None)
@given(seed=integers, draw=st.integers(0, 5))
def test_the_elements_of_an_example_are_the_outputs_of_one_splitmix64(seed, draw):
    state = mix(seed, draw).item()
    outputs = [splitmix((state + i * 0x9E3779B97F4A7C15) & MASK) for i in range(6)]
    expected = torch.tensor([(word >> 40) / 2**24 for word in outputs])
    assert Noise(torch.tensor([seed])).uniform((1, 2, 3), draw=draw).equal(expected.reshape(1, 2, 3))


@settings(deadline=None)
@given(integers, integers, integers)
def test_mix_depends_on_every_part_and_their_order(a, b, c):
    assert mix(torch.tensor([a]), b, c).item() == mix(a, torch.tensor(b), c).item()
    if a != b:
        assert mix(a, b) != mix(b, a)
        assert mix(a, c) != mix(b, c)
        assert mix(c, a) != mix(c, b)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@settings(deadline=None, max_examples=30)
@given(seeds=st.lists(integers, max_size=6), order=st.randoms(use_true_random=False))
def test_an_example_has_the_same_numbers_in_any_batch(kind, seeds, order):
    seeds = torch.tensor(seeds, dtype=torch.int64)
    whole = getattr(Noise(seeds), kind)((len(seeds), 3, 5, 2), draw=1)

    shuffled = torch.tensor(order.sample(range(len(seeds)), len(seeds)), dtype=torch.int64)
    some = shuffled[: len(seeds) // 2]
    assert getattr(Noise(seeds[shuffled]), kind)((len(seeds), 3, 5, 2), draw=1).equal(whole[shuffled])
    assert getattr(Noise(seeds[some]), kind)((len(some), 3, 5, 2), draw=1).equal(whole[some])
    for row in range(len(seeds)):
        assert getattr(Noise(seeds[row : row + 1]), kind)((1, 3, 5, 2), draw=1).equal(whole[row : row + 1])


def test_streams_keep_to_their_example_too():
    seeds = torch.arange(5)
    whole = Noise(seeds).stream(3).uniform((5, 4))
    assert Noise(seeds[[4, 2]]).stream(3).uniform((2, 4)).equal(whole[[4, 2]])


def test_the_type_of_the_seeds_does_not_matter():
    assert (
        Noise(torch.tensor([7, 8], dtype=torch.int32)).normal((2, 9)).equal(Noise(torch.tensor([7, 8])).normal((2, 9)))
    )


def test_noise_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    Noise(torch.arange(3)).normal((3, 10))
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize("rows", [0, 1, 3, 20])
def test_a_wrong_number_of_rows_raises(rows):
    with pytest.raises(ValueError, match="2 examples: expected one row per example"):
        Noise(torch.arange(2)).uniform((rows, 4))


@settings(deadline=None)
@given(low=st.floats(-1, 0, width=32), width=st.floats(2**-20, 1, width=32), seed=integers)
def test_uniform_numbers_stay_in_their_interval(low, width, seed):
    numbers = Noise(torch.tensor([seed])).uniform((1, 1000), low, low + width)
    assert numbers.dtype == torch.float32
    assert numbers.min() >= low
    assert numbers.max() <= low + width


LAYOUTS = {
    "one example of many elements": lambda kind, **at: getattr(Noise(torch.tensor([11])), kind)((1, 40000), **at)[0],
    "many neighbouring seeds of one element": lambda kind, **at: getattr(Noise(torch.arange(40000)), kind)(
        (40000, 1), **at
    )[:, 0],
    "a stream of many seeds": lambda kind, **at: getattr(Noise(torch.arange(40000)).stream(2), kind)((40000,), **at),
}


@pytest.mark.parametrize("numbers", LAYOUTS.values(), ids=LAYOUTS)
def test_uniform_numbers_are_uniform(numbers):
    sample = numbers("uniform").double().numpy()
    assert stats.kstest(sample, "uniform").pvalue > 1e-3
    assert abs(sample.mean() - 0.5) < 4 / (12 * len(sample)) ** 0.5
    assert abs(sample.var() - 1 / 12) < 4 * (1 / 180 / len(sample)) ** 0.5


@pytest.mark.parametrize("numbers", LAYOUTS.values(), ids=LAYOUTS)
def test_normal_numbers_are_normal(numbers):
    sample = numbers("normal", std=0.01).double().numpy()
    assert stats.kstest(sample / 0.01, "norm").pvalue > 1e-3
    assert stats.normaltest(sample).pvalue > 1e-3
    assert abs(sample.std() / 0.01 - 1) < 4 / (2 * len(sample)) ** 0.5
    assert 3.5 < abs(sample / 0.01).max() < 5.8


def test_every_bit_of_a_hash_flips_half_of_the_time_when_a_neighbouring_seed_is_taken():
    flips = mix(torch.arange(20000)) ^ mix(torch.arange(1, 20001))
    share = torch.stack([((flips >> bit) & 1).double().mean() for bit in range(64)])
    assert (share - 0.5).abs().max() < 4.5 * 0.5 / 20000**0.5


PAIRS = {
    "draws": lambda noise: (noise.normal((200, 200)), noise.normal((200, 200), draw=1)),
    "streams": lambda noise: (noise.stream(0).normal((200, 200)), noise.stream(1).normal((200, 200))),
    "a stream and its source": lambda noise: (noise.normal((200, 200)), noise.stream(0).normal((200, 200))),
    "neighbouring seeds": lambda noise: (noise.normal((200, 200))[1:], noise.normal((200, 200))[:-1]),
    "neighbouring elements": lambda noise: (noise.normal((200, 200))[:, 1:], noise.normal((200, 200))[:, :-1]),
    "uniform and normal of two draws": lambda noise: (noise.uniform((200, 200)), noise.normal((200, 200), draw=1)),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_numbers_that_should_be_independent_are(pair):
    one, other = (part.flatten().double().numpy() for part in pair(Noise(torch.arange(200))))
    assert abs(stats.pearsonr(one, other).statistic) < 4.5 / len(one) ** 0.5
    assert abs(stats.pearsonr(abs(one - one.mean()), abs(other - other.mean())).statistic) < 4.5 / len(one) ** 0.5
    assert (one == other).mean() < 0.001


def test_fresh_seeds_follow_the_global_generator():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first, second = fresh_seeds(4, torch.device("cpu")), fresh_seeds(4, torch.device("cpu"))
        torch.manual_seed(3)
        again = fresh_seeds(4, torch.device("cpu"))
    assert first.equal(again)
    assert len(set(first.tolist() + second.tolist())) == 8


def test_hashes_stay_on_the_device_of_their_tensors():
    assert mix(0, torch.zeros(3, dtype=torch.int64, device="meta"), 5).device.type == "meta"

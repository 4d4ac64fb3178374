"""The benchmark is fair: its naive sides follow the same rules, its sides take turns, and strengths are measured."""

import copy
import json
import time
from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from gauntlet.attacks import (
    PGD,
    Adam,
    FastLagrangianPerceptualAttack,
    FirstSuccess,
    LagrangianPerceptualAttack,
    Last,
    NoProjection,
)
from gauntlet.config.compose import CONF, plain, register_resolvers
from gauntlet.config.instantiate import instantiate
from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.identity import describe
from gauntlet.noise import Noise
from gauntlet.runs.references import without_weights
from gauntlet.threats import NeuralPerceptual, ReColorAdv, StAdv
from scripts.bench import evaluating, passes, sides, training
from scripts.bench.growth import draw, growth
from scripts.bench.models import BenchModel, Bounds, bench_models
from scripts.bench.naive import Naive, adam
from scripts.bench.naive import autoattack as naive_autoattack
from scripts.bench.setting import Setting
from scripts.bench.sides import Row, Side, Timed, take_slices, take_turns
from tests.fixtures import batch_of, predictions, random_images, tapped

CPU = torch.device("cpu")
COUNT = 4


def tiny(dtype=torch.float32):
    network, images = tapped(dtype=dtype), random_images(COUNT, 3, 8, 8, dtype=dtype)
    labels = predictions(network, images)
    fast = copy.deepcopy(network).to(memory_format=torch.channels_last)
    bounds = Bounds(0.1, 1.0, 0.1, 0.1, 0.3)
    return BenchModel("tiny", fast, network, images, labels, LPIPS(tapped(seed=3, dtype=dtype)), bounds)


@pytest.fixture
def setting():
    bench_model = tiny()
    both = {"normal": bench_model, "robust": bench_model}
    return Setting(both, CPU, images=COUNT, few=COUNT, batch=COUNT, turns=1, queries=20, targets=3)


@pytest.fixture
def same_start(monkeypatch):
    """Both sides begin from the library's noise."""

    def start_of(seeds):
        drawn = lambda images: Noise(seeds).normal(images.shape).to(images)  # noqa: E731
        monkeypatch.setattr(torch, "randn_like", drawn)

    return start_of


@pytest.mark.parametrize("bounded", ["self", "external"])
def test_the_naive_fast_lpa_gives_the_librarys_images(bounded, same_start):
    bench_model = tiny(torch.float64)
    images, labels, seeds = bench_model.images, bench_model.labels, torch.arange(COUNT)
    feature_network = bench_model.plain if bounded == "self" else bench_model.distance.network
    distance = SelfLPIPS() if bounded == "self" else bench_model.distance
    attack = FastLagrangianPerceptualAttack(threat_model=NeuralPerceptual(distance, 0.3), steps=6, iterate=Last())
    ours = attack(bench_model.plain, images, labels, seeds=seeds).images
    same_start(seeds)
    theirs = Naive(bench_model.plain, feature_network).fast_lpa(images, labels, 0.3, 6)
    assert (ours - images).abs().amax() > 0.01
    assert theirs.allclose(ours, rtol=0, atol=1e-5)


class Unprojected(Naive):
    """LPA without its projection."""

    def projected(self, images, others, clean, bound):
        return others


@pytest.mark.parametrize("bound", [0.1, 0.3])
def test_the_naive_lpa_gives_the_librarys_images(bound, same_start):
    bench_model = tiny(torch.float64)
    images, labels, seeds = bench_model.images, bench_model.labels, torch.arange(COUNT)
    threat = NeuralPerceptual(bench_model.distance, bound)
    attack = LagrangianPerceptualAttack(
        threat_model=threat, searches=3, steps=4, iterate=FirstSuccess(), projection=NoProjection()
    )
    ours = attack(bench_model.plain, images, labels, seeds=seeds).images
    same_start(seeds)
    theirs = Unprojected(bench_model.plain, bench_model.distance.network).lpa(images, labels, bound, 3, 4)
    assert theirs.allclose(ours, rtol=0, atol=1e-4)


def test_the_naive_projection_ends_inside():
    bench_model = tiny(torch.float64)
    others = random_images(COUNT, 3, 8, 8, seed=5, dtype=torch.float64)
    naive = Naive(bench_model.plain, bench_model.distance.network)
    back = naive.projected(bench_model.images, others, naive.phi(bench_model.images).detach(), 0.3)
    assert (bench_model.distance(bench_model.images, others) > 0.3).all()
    assert (bench_model.distance(bench_model.images, back) <= 0.3).all()


@pytest.mark.parametrize("threat", [StAdv(0.1), ReColorAdv(0.1)])
def test_the_naive_adam_gives_the_librarys_images(threat):
    bench_model = tiny(torch.float64)
    attack = PGD(threat_model=threat, iterate=Last(), step=Adam(), steps=6, step_size=0.2)
    ours = attack(bench_model.plain, bench_model.images, bench_model.labels, seeds=torch.arange(COUNT)).images
    region = threat.around(batch_of(bench_model.images))
    theirs = adam(bench_model.plain, region, bench_model.labels, 0.2 * threat.bound, 6)
    assert theirs.allclose(ours, rtol=0, atol=1e-6)


def test_the_naive_ppgd_stays_in_the_ball_and_lowers_the_margin():
    bench_model = tiny(torch.float64)
    naive = Naive(bench_model.plain, bench_model.distance.network)
    actual = naive.ppgd(bench_model.images, bench_model.labels, 0.3, 5)
    assert (bench_model.distance(bench_model.images, actual) <= 0.3 * (1 + 1e-6)).all()
    with torch.no_grad():
        before, after = (
            bench_model.plain(x).gather(1, bench_model.labels[:, None]) for x in (bench_model.images, actual)
        )
    assert (after < before).all()


def test_the_naive_autoattack_runs_all_examples_except_in_square(setting):
    pytest.importorskip("pyautoattack")
    bench_model, batches = tiny(), []
    bench_model.plain.register_forward_pre_hook(lambda _network, given: batches.append(len(given[0])))
    package = evaluating.autoattack_package(bench_model.plain, "Linf", 0.1, setting)
    package.square.n_queries = 0
    actual = naive_autoattack(package, bench_model.images, bench_model.labels)
    assert len(actual) == 1 + 3 + 3 + 1
    assert set(batches) == {COUNT}
    assert len(batches) > 100 + 3 * 100 + 3 * 2 * 100
    assert all((images - bench_model.images).abs().max() <= 0.1 + 1e-6 for images in actual)


def test_sides_take_turns_and_ratios_are_by_turn():
    log = []
    sides = [Side(name, lambda name=name: log.append(name), lambda _: 0.5) for name in "ab"]
    timed = take_turns(sides, 3, CPU)
    assert "".join(log) == "ba" + "ab" + "ba" + "ab"  # the first two are warm-up
    assert [len(side.seconds) for side in timed] == [3, 3]
    row = Row("k", "job", "", [Timed("ours", [1.0, 10.0, 2.0], None), Timed("theirs", [3.0, 20.0, 8.0], None)])
    assert row.ratio(row.sides[1]) == 3.0
    assert json.loads(json.dumps(row.plain()))["ratios"] == {"theirs": 3.0}


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_sides_of_long_jobs_run_by_slices_and_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(sides, "_SLICE", 0.1)
    written = tmp_path / "written"

    def write_slowly(name):
        for _ in range(800):
            with written.open("a") as file:
                file.write(name)
            sum(range(50_000))
        return {"first": 0.25, "second": 0.5}[name]

    both = [Side(name, lambda name=name: write_slowly(name), lambda actual: actual) for name in ("first", "second")]
    timed = take_slices(both, 2, CPU)
    messages = written.read_text()
    assert [len(side.seconds) for side in timed] == [2, 2]
    assert all(seconds > 0 for side in timed for seconds in side.seconds)
    assert [side.strength for side in timed] == [0.25, 0.5]
    assert messages.count("first") == messages.count("second") == 1600
    assert 4 < messages.count("firstsecond") < 200  # both at once would give 800 by chance, 1600 in step


@pytest.mark.usefixtures("one_thread")
def test_the_first_side_that_fails_ends_the_row(monkeypatch):
    monkeypatch.setattr(sides, "_SLICE", 0.1)

    def fails():
        raise ValueError("no")

    with pytest.raises(ChildProcessError, match=r"naive failed \(exit code 1\)"):
        take_slices([Side("naive", fails), Side("endless", lambda: time.sleep(3600))], 1, CPU)


@pytest.mark.slow
def test_stopping_early_is_never_weaker_than_the_published_attack(setting):
    rows = list(evaluating.suite(setting))
    assert [row.job.split(",")[0] for row in rows[:6]] == ["linf", "l2", "stadv", "recoloradv", "ppgd", "lpa"]
    for row in rows[:6]:
        stopped, published, naive = row.sides
        assert stopped.strength <= published.strength
        assert abs(published.strength - naive.strength) <= 1 / COUNT
    assert [side.seconds for side in rows[6].sides] == [
        [sum(row.sides[folder].seconds[0] for row in rows[:6])] for folder in range(3)
    ]


def test_attacks_of_other_packages_are_as_strong(setting):
    pytest.importorskip("foolbox")
    pytest.importorskip("torchattacks")
    torch.manual_seed(0)  # the others' random starts
    (row,) = evaluating.pgd(setting)
    assert len(row.sides) == 5
    assert {side.strength for side in row.sides} == {row.sides[0].strength}


def test_the_active_set_leaves_a_part_of_the_worst_case(setting):
    rows = {row.job.split(",")[0]: row.figures for row in passes.active(setting)}
    assert rows["lpa"]["worst case"] == 5 * 40 * 2
    assert rows["pgd-40"]["worst case"] == 40 * 2 + 1
    assert all(0 < figures["share"] <= 1 for figures in rows.values())


def test_folding_is_timed_on_both_sides(setting):
    rows = list(passes.folding(setting))
    assert [[side.name for side in row.sides] for row in rows] == [["folded", "as it is"]] * 2


def test_a_step_is_timed_on_both_sides_and_changes_no_weights(setting):
    bench_model = setting.bench_models["robust"]
    before = {name: tensor.clone() for name, tensor in bench_model.classifier.state_dict().items()}
    rows = [*training.step(setting), *training.flops(setting), *training.loader(setting)]
    assert len(rows) == 2 + 2 + 2
    for row in rows[:2]:
        assert {side.name for side in row.sides} == {"Gauntlet", "Gauntlet, bf16-mixed", "naive"}
        assert all(0 <= side.strength <= 1 for side in row.sides)
    assert all(tensor.equal(before[name]) for name, tensor in bench_model.classifier.state_dict().items())


def test_growth_is_measured_and_drawn(setting, tmp_path):
    rows = list(growth(setting, {"batch": (1, 2), "size": (16, 20)}))
    assert [row.job for row in rows][:2] == ["PGD against batch", "PGD against size"]
    draw(rows, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1000


@pytest.mark.slow
def test_without_data_the_networks_are_trained_on_digits():
    actual = bench_models(None, CPU)
    for bench_model in actual.values():
        assert bench_model.robust(bench_model.images) > 0.9
    bound = actual["robust"].half_robust_bound(50)
    assert bound > actual["normal"].half_robust_bound(50)


@pytest.mark.parametrize("name", ["paper", "paper_stopped"])
def test_the_suites_that_are_timed_are_those_of_the_configs(name):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["+experiment/cifar10=normal", f"attack_suite={name}"], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    suite = instantiate(without_weights(plain(config))["attack_suite"], "attack_suite")
    distance = suite.attacks["lpa"].threat_model.distance
    bench_model = replace(tiny(), distance=distance, bounds=Bounds(8 / 255, 1.0, 0.05, 0.06, 0.5))
    setting = Setting({}, CPU, images=1, few=1, batch=1, turns=1)
    timed = evaluating.published(bench_model, setting)
    if name == "paper_stopped":
        timed = {key: evaluating.stopped(attack) for key, attack in timed.items()}
    for key, attack in timed.items():
        assert describe(attack) == describe(suite.attacks[key])

"""The paper's tables as data: complete, and consistent with their own unseen means."""

import pytest
from omegaconf import OmegaConf

from gauntlet.config.compose import CONF, register_resolvers
from gauntlet.errors import UserError
from gauntlet.evaluation import unseen
from gauntlet.reports import published_file, read_published


def table(name):
    return read_published(CONF / "published" / f"{name}.yaml")


def recomputed(name):
    """By row: the published unseen mean, and the one that follows from the row's other cells, in percent."""
    published, means = table(name), {}
    for defense, row in published.rows.items():
        members = unseen(published.threat_models, row.trained_on)
        mean = sum(row.cells[member] for member in members) / len(members) if members else None
        if "unseen mean" in row.cells or mean is not None:
            means[defense] = (100 * row.cells["unseen mean"], 100 * mean)
    return means


def test_the_unseen_means_of_cifar10_follow_from_the_cells_to_the_printed_digit():
    rows = recomputed("cifar10")
    assert len(rows) == 9
    for defense, (printed, ours) in rows.items():
        assert abs(printed - ours) <= 0.05 + 1e-9, defense


def test_the_unseen_means_of_imagenet100_follow_from_the_cells_but_for_one_row():
    """Normal training is the exception: 0.1 is printed, its cells give 0.4."""
    rows = recomputed("imagenet100")
    assert len(rows) == 8
    off = {defense: ours for defense, (printed, ours) in rows.items() if abs(printed - ours) > 0.1}
    assert off == {"normal": pytest.approx(0.4)}


@pytest.mark.parametrize(("name", "rows", "columns"), [("cifar10", 12, 7), ("imagenet100", 9, 8)])
def test_tables_are_complete(name, rows, columns):
    published = table(name)
    assert (len(published.rows), len(published.attacks)) == (rows, columns)
    for defense, row in published.rows.items():
        assert row.cells.keys() - {"unseen mean"} == {"union", *published.attacks}, defense
        assert row.cells["union"] <= min(row.cells[attack] for attack in published.union), defense
        assert row.cells["clean"] == max(row.cells.values())
        assert ("unseen mean" in row.cells) == (not defense.startswith("at_all"))
    assert set(published.union) == {
        name for name, threat in published.threat_models.items() if threat not in ("clean", "perceptual")
    }


def test_the_headline_of_the_abstract():
    """Union accuracy more than doubled over the next best model on ImageNet-100; bounds as in the paper."""
    rows = table("imagenet100").rows
    assert rows["pat_self"].cells["union"] > 2 * max(
        row.cells["union"] for name, row in rows.items() if not name.startswith("pat")
    )
    assert table("cifar10").attacks["linf"]["bound"] == 8 / 255
    assert table("imagenet100").attacks["linf"]["bound"] == 4 / 255
    assert table("imagenet100").attacks["l2"]["bound"] == pytest.approx(1200 / 255)


def test_doubtful_cells_are_marked():
    assert table("cifar10").rows["at_all_random"].marks.keys() == {"clean"}
    assert table("imagenet100").rows["normal"].marks.keys() == {"unseen mean", "recoloradv"}
    assert table("imagenet100").rows["at_stadv"].marks.keys() == {"ppgd"}


UA2 = ("cifar10_ua2", "imagenet100_ua2", "imagenet_ua2")


@pytest.mark.parametrize("name", UA2)
def test_ua2_is_the_mean_of_the_eight_core_attacks(name):
    """To the rounding of what is printed; of ImageNet's plain ResNet-50 it is 1.55."""
    published = table(name)
    digit = 0.006 if name == "imagenet_ua2" else 0.07
    eight = published.means["UA2"]
    assert len(eight) == 8
    for row in published.rows.values():
        assert row.cells.keys() == {"UA2", *published.attacks}
        mean = 100 * sum(row.cells[attack] for attack in eight) / 8
        assert mean == pytest.approx(100 * row.cells["UA2"], abs=digit)
    if name == "imagenet_ua2":
        assert round(100 * sum(published.rows["normal"].cells[attack] for attack in eight) / 8, 2) == 1.55


@pytest.mark.parametrize(("name", "settings"), [(UA2[0], "cifar10"), (UA2[1], "imagenet"), (UA2[2], "imagenet")])
def test_the_bounds_and_steps_of_the_published_columns_are_those_that_the_suite_uses(name, settings):
    register_resolvers()
    used = OmegaConf.load(CONF / "imagenet_ua" / f"{settings}.yaml").imagenet_ua
    for column, attack in table(name).attacks.items():
        key = "linf" if column == "pgd" else column
        if column != "clean":
            assert attack["bound"] == pytest.approx(used.medium[key])
            assert attack["steps"] == used.steps[key]


def test_a_suite_has_its_own_file_or_that_of_its_dataset():
    folder = CONF / "published"
    assert published_file(folder, "cifar10", "ua2") == folder / "cifar10_ua2.yaml"
    assert published_file(folder, "cifar10", "paper") == folder / "cifar10.yaml"
    assert published_file(folder, "digits", "ua2") is None


HEAD = "source: a\nnetwork: n\ndataset: b\nexamples: 1\nattacks: {}\nunion: []\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: 3", "is no table"),
        (HEAD + "rows: {r: {trained_on: [], cells: {fog: 1}}}", "fog"),
        (HEAD + "rows: {r: {trained_on: [], cells: {union: 101}}}", "101"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, message):
    file = tmp_path / "table.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        read_published(file)

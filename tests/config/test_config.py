"""Every option composes, names existing classes with their arguments, and builds plain types."""

import inspect
import itertools
from dataclasses import is_dataclass
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object

from gauntlet.config.compose import CONF, check_named_row, digest_of, plain, regime_of, register_resolvers
from gauntlet.config.instantiate import check_targets, instantiate
from gauntlet.descriptions import differences
from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite
from gauntlet.identity import describe
from gauntlet.threats import RGB, ReColorAdv, StAdv

CHOICES = ("dataset", "model", "distance", "threat_model", "defense", "attack_suite", "trainer", "logger")
OPTIONS = [f"{group}={file.stem}" for group in CHOICES for file in sorted((CONF / group).glob("*.yaml"))]
NEEDED = {
    "model=torchvision": ["model.name=resnet18"],
    "model=timm": ["model.name=resnet18"],
    "model=custom": ["model.network._target_=torch.nn.Flatten"],
}
ROWS = [file.stem for file in sorted((CONF / "defense").glob("*.yaml"))]


@pytest.fixture
def composed():
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):

        def call(*words):
            config = compose("train", list(words), return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            return config

        yield call


def nodes(config):
    """Every node with a `_target_`."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield config
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from nodes(value)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_its_targets_take_its_arguments(composed, option):
    words = [option] if option.startswith("defense") else ["defense=normal", option]
    config = plain(composed(*words, *NEEDED.get(option, [])))
    check_targets(config)
    check_named_row(config)
    for node in nodes(config):
        arguments = {key for key in node if not key.startswith("_") and key != "row"}
        parameters = inspect.signature(get_object(node["_target_"])).parameters
        free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        assert free or arguments - {"device", "calibrated_lpips"} <= parameters.keys(), node["_target_"]


@pytest.mark.parametrize(("defense", "model"), itertools.product(ROWS, ["small_resnet", "linear"]))
def test_the_choices_are_independent(composed, defense, model):
    config = plain(composed(f"defense={defense}", f"model={model}", "attack_suite=clean"))
    assert config["names"]["defense"] == defense
    assert config["names"]["model"] == model


def test_a_row_is_its_general_form():
    """`at_l2` is `at threat_model=l2` under another name, and `pat_self` is `pat distance=lpips_self`."""
    register_resolvers()
    pairs = [("at_l2", "at", "threat_model=l2"), ("pat_self", "pat", "distance=lpips_self")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for row, general, choice in pairs:
            built = []
            for words in ([f"defense={row}"], [f"defense={general}", choice]):
                config = compose("train", words, return_hydra_config=True)
                HydraConfig.instance().set_config(config)
                whole = plain(config)
                whole["defense"].pop("row", None)
                whole["names"].pop("defense")
                built.append(whole)
            assert built[0] == built[1]


def test_a_suite_holds_plain_types(composed):
    config = plain(composed("defense=normal", "attack_suite=clean"))
    suite = instantiate(config["attack_suite"])
    assert isinstance(suite, AttackSuite)
    assert (type(suite.attacks), type(suite.union)) == (dict, list)
    assert all(is_dataclass(attack) for attack in suite.attacks.values())


@pytest.mark.parametrize(
    ("option", "built"),
    [
        ("stadv", StAdv(0.1)),
        ("recoloradv", ReColorAdv(0.1)),
        ("recoloradv_rgb", ReColorAdv(0.1, RGB(), (25, 25, 25))),
    ],
)
def test_the_yaml_of_a_flow_or_colour_map_says_the_defaults(composed, option, built):
    config = plain(composed("defense=at", f"threat_model={option}"))
    threat = instantiate(config["defense"]["attack"]["threat_model"])
    assert threat == built
    assert describe(threat) == describe(built)


def test_fractions_are_written_as_fractions(composed):
    config = plain(composed("defense=at_linf", "threat_model.bound=${frac:8,255}"))
    assert config["defense"]["attack"]["threat_model"]["bound"] == 8 / 255


def test_a_run_is_named_after_what_training_depends_on_and_nothing_else(composed):
    base = digest_of(composed("defense=pat_self"))
    for words in (["attack_suite=clean"], ["logger=csv"], ["outputs=elsewhere"], ["evaluation.chunk=7"]):
        assert digest_of(composed("defense=pat_self", *words)) == base
    for words in (["seed=1"], ["model=linear"], ["optimizer.lr=1"], ["dataset.recipe.epochs=1"], ["trainer=cpu"]):
        assert digest_of(composed("defense=pat_self", *words)) != base
    folder = composed("defense=pat_self").hydra.run.dir
    assert folder == f"outputs/digits/pat_self-small_resnet/seed0-{base[:8]}"


def test_differences_name_the_keys():
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}) == ["a.b: 1 → 3"]
    assert differences({"a": 1}, {}) == ["a: 1 → (unset)"]


def test_configs_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CONF.is_absolute()
    assert (CONF / "train.yaml").exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.run",
        "torch.load",
        "torch.hub.load",
        "gauntlet.runs.folder.subprocess.run",
    ],
)
def test_a_target_of_another_kind_is_refused(target):
    with pytest.raises(UserError, match="_target_"):
        check_targets({"x": [{"_target_": target}]})


def test_what_gauntlet_only_imports_is_not_its_own():
    with pytest.raises(UserError, match="only imports"):
        check_targets(
            {"_target_": "gauntlet.runs.folder.write_atomically"} | {"_target_": "gauntlet.data.module.DataLoader"}
        )


def test_library_classes_of_the_right_kind_are_allowed():
    check_targets({"a": {"_target_": "torch.nn.Linear"}, "b": {"_target_": "torch.optim.Adam"}})
    check_targets({"_target_": "lightning.Trainer"})
    check_targets({"_target_": "torchvision.models.resnet.ResNet"})


def test_a_package_of_ones_own_needs_to_be_allowed():
    with pytest.raises(UserError, match=r"allow=\[tests\]"):
        check_targets({"_target_": "tests.fixtures.Anything"})


def test_option_files_begin_with_a_comment_or_a_row():
    """Every defense and suite begins with a comment or a row that says what it is."""
    for file in [*Path(CONF / "attack_suite").glob("*.yaml"), *Path(CONF / "experiment").rglob("*.yaml")]:
        assert "# " in file.read_text().splitlines()[0], file


def test_the_name_of_a_row_has_everything_that_made_its_weights(composed):
    extra = ("+extra@dataset.extra=npz", "dataset.extra.root=1m.npz", "dataset.extra.share=0.7")
    assert regime_of(plain(composed("defense=normal"))) == "normal"
    assert regime_of(plain(composed("defense=normal", *extra))) == "normal+mixed0.7"
    both = plain(composed("defense=at_linf", "callbacks=averaging"))
    assert regime_of(both) == "at_linf+averaged"
    both["dataset"]["extra"] = {"share": 0.3}
    assert regime_of(both) == "at_linf+averaged+mixed0.3"

"""The identities of everything shipped are those of tests/golden/identities.json."""

import json
import re
from dataclasses import dataclass, field, is_dataclass
from typing import ClassVar

import pytest
from hydra.utils import get_object

from gauntlet.class_identity import declared_identity
from gauntlet.config.compose import CONF
from gauntlet.descriptions import differences
from gauntlet.errors import UserError
from gauntlet.losses import CrossEntropy, Margin

pin_identities = pytest.importorskip("scripts.pin_identities", reason="no scripts in this installation")
GOLDEN = json.loads(pin_identities.GOLDEN.read_text())
UNDESCRIBED = ("gauntlet.evaluation.", "gauntlet.data.ArrayFile", "gauntlet.data.PictureFolder")
"""How it is measured, which `Grid` writes into identities itself, and data, which counts by its content."""


def test_no_default_changed_under_the_version_it_had():
    now = pin_identities.defaults_of(pin_identities.shipped())
    assert pin_identities.unversioned(GOLDEN["classes"], now) == []


def test_the_file_is_what_the_script_writes():
    """After test_no_default_changed_under_the_version_it_had, whose advice comes first."""
    now = json.loads(pin_identities.written(pin_identities.pinned()))
    changed = differences(GOLDEN, now)
    assert not changed, f"{changed}: if that was meant, run python -m scripts.pin_identities"


def test_a_changed_default_is_refused_until_the_version_is_bumped():
    @dataclass(frozen=True)
    class PGD:
        steps: int = 41
        added: int = 3
        identity: ClassVar[str] = "pgd/1"

    (line,) = pin_identities.unversioned(GOLDEN["classes"], pin_identities.defaults_of([PGD]))
    assert line == (
        "pgd/1: default of steps: 40 → 41: bump the version of pgd/1 to pgd/2, then run"
        " python -m scripts.pin_identities"
    )
    PGD.identity = "pgd/2"
    assert pin_identities.unversioned(GOLDEN["classes"], pin_identities.defaults_of([PGD])) == []


def test_a_new_version_of_what_is_a_default_asks_for_one_of_what_has_it(monkeypatch):
    """The margin is what `Untargeted` climbs unless told otherwise, and that is the goal of PGD."""
    monkeypatch.setattr(Margin, "identity", "margin/2")
    now = pin_identities.defaults_of(pin_identities.shipped())
    lines = pin_identities.unversioned(GOLDEN["classes"], now)
    assert any(line.startswith("untargeted/1: default of loss.class: margin/1 → margin/2: bump") for line in lines)


def test_the_script_refuses_too_and_leaves_the_file(monkeypatch, tmp_path):
    file = tmp_path / "identities.json"
    file.write_text(pin_identities.written({"classes": {"pgd/1": {"steps": 39}}, "configs": {}}))
    before = file.read_text()
    monkeypatch.setattr(pin_identities, "GOLDEN", file)
    monkeypatch.setattr(pin_identities, "_configs", lambda: {}.items())
    with pytest.raises(SystemExit, match=r"pgd/1: default of steps: 39 → 40: bump"):
        pin_identities.main()
    assert file.read_text() == before
    file.write_text(before.replace("39", "40"))
    pin_identities.main()
    assert json.loads(file.read_text())["classes"] == GOLDEN["classes"]


def test_no_two_classes_share_an_identity():
    pin_identities.defaults_of(pin_identities.shipped())

    @dataclass(frozen=True)
    class Copy:
        loss: object = field(default_factory=CrossEntropy)
        identity: ClassVar[str] = "cross_entropy/1"

    with pytest.raises(UserError, match="Copy and CrossEntropy are both cross_entropy/1"):
        pin_identities.defaults_of([CrossEntropy, Copy])


def test_every_dataclass_that_a_config_names_declares_its_identity():
    files = "".join(file.read_text() for file in CONF.rglob("*.yaml"))
    targets = set(re.findall(r"_target_: (gauntlet\.[\w.]+)", files))
    described = {target: get_object(target) for target in targets if not target.startswith(UNDESCRIBED)}
    classes = {target: cls for target, cls in described.items() if isinstance(cls, type) and is_dataclass(cls)}
    assert len(classes) > 60
    assert [target for target, cls in classes.items() if not declared_identity(cls)] == []


def test_nothing_shipped_is_known_by_its_source():
    assert "@" not in json.dumps(GOLDEN)


def test_every_option_is_pinned():
    groups = ("attack", "threat_model", "distance", "attack_suite", "corruptions", "model")
    files = [file for group in groups for file in (CONF / group).rglob("*.yaml")]
    options = {str(file.relative_to(CONF).with_suffix("")) for file in files} - set(pin_identities.LEFT_OUT)
    pinned = set(GOLDEN["configs"])
    assert {option for option in options if not any(f"{name}/".startswith(f"{option}/") for name in pinned)} == set()

"""The guide to corruptions: every command means something, and what needs no files of others runs."""

import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from gauntlet.corruptions import TYPES
from gauntlet.evaluation import read_errors
from gauntlet.launch.config import CONF, register_resolvers

GUIDE = Path(__file__).parents[2] / "docs" / "corruptions.md"
pytestmark = pytest.mark.skipif(not GUIDE.exists(), reason="no docs in this installation")


def commands():
    """The words of every `evaluate.py` command, comments left out; a place holder is one word."""
    text = GUIDE.read_text() if GUIDE.exists() else ""
    lines = re.findall(r"^python evaluate\.py (.*?)(?:\s+#.*)?$", text, re.M)
    return [re.findall(r"(?:<[^>]*>|\S)+", line) for line in lines]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_composes(words):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("evaluate", [re.sub(r"<.*?>", "somewhere", word) for word in words])
    assert config.attack_suite.types.keys() == set(TYPES)


def test_the_table_is_whole():
    rows = re.findall(r"^\| (\w+) \|.*\|$", GUIDE.read_text(), re.M)
    assert rows == ["clean", *TYPES]


def test_the_yaml_is_a_baseline(tmp_path):
    text = re.search(r"```yaml\n(.*?)```", GUIDE.read_text(), re.S)[1]
    (tmp_path / "errors.yaml").write_text(text)
    assert read_errors(tmp_path / "errors.yaml").types.keys() == set(yaml.safe_load(text)["errors"])


@pytest.mark.slow
def test_what_needs_no_files_of_others_runs(door, run, tmp_path):
    """All fifteen types on digits but frost, whose photographs nobody has here; then relative to itself."""
    small = ("evaluation.examples=20", "evaluation.chunk=20", "evaluation.probed=2", "logger=csv")
    given = {"<run>": str(run), "<other run>": str(run)}
    for words in commands():
        known = [re.sub(r"<.*?>", lambda found: given.get(found[0], found[0]), word) for word in words]
        if str(run) in known[0] and "<" not in " ".join(known) and "imagenet" not in " ".join(known):
            said = door("evaluate", *known, *small)
            assert said.code == 0, said.err
            assert "of 15 types of corruption" in " ".join(said.out.split())

"""The guide to corruptions matches the code. Its commands: test_commands.py."""

import re
from pathlib import Path

import pytest
import yaml

from gauntlet.corruptions import TYPES, read_errors

GUIDE = Path(__file__).parents[2] / "docs" / "corruptions.md"
pytestmark = pytest.mark.skipif(not GUIDE.exists(), reason="no docs in this installation")


def test_the_table_is_complete():
    rows = re.findall(r"^\| (\w+) \|.*\|$", GUIDE.read_text(), re.M)
    assert rows == ["clean", *TYPES]


def test_the_yaml_is_a_baseline(tmp_path):
    text = re.search(r"```yaml\n(.*?)```", GUIDE.read_text(), re.S)[1]
    (tmp_path / "errors.yaml").write_text(text)
    assert read_errors(tmp_path / "errors.yaml").types.keys() == set(yaml.safe_load(text)["errors"])

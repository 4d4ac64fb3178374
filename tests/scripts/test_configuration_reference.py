"""The configuration reference matches conf/, and every key of conf/ has a meaning."""

import shutil
from pathlib import Path

import pytest

reference = pytest.importorskip("scripts.configuration_reference", reason="no scripts in this installation")


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of conf/ to write into."""
    folder = Path(shutil.copytree(reference.CONF, tmp_path / "conf"))
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(reference, "CONF", folder)
    return folder


def test_the_page_is_what_the_script_writes():
    assert reference.PAGE.read_text() == reference.page(), "stale: run python scripts/configuration_reference.py"


def test_every_file_and_every_key_has_a_meaning():
    assert reference.unexplained() == []


def test_every_option_is_on_the_page():
    text = reference.page()
    for file in reference.CONF.rglob("*.yaml"):
        group = str(file.parent.relative_to(reference.CONF))
        listed = f"| `{file.stem}` |" in text
        assert listed or f"## {group}={file.stem}\n" in text or f"## {group}/{file.stem}\n" in text or group == ".", (
            file
        )


def test_a_new_option_is_on_the_page_and_has_to_be_explained(conf):
    option = conf / "model" / "mine.yaml"
    option.write_text("_target_: gauntlet.models.small_resnet\nclasses: 10\nfoo: 3\nbar: 4 # of bars\n")
    assert reference.unexplained() == ["conf/model/mine.yaml: the file", "conf/model/mine.yaml: foo"]
    option.write_text(
        "# A network <of> mine.\n" + option.read_text().replace("foo: 3", "# of foos | and\n# more\nfoo: 3")
    )
    reference.read_option.cache_clear()
    assert reference.unexplained() == []
    text = reference.page()
    assert "### model=mine\n\nA network &lt;of> mine.\n" in text
    assert "| `foo` | `3` | of foos \\| and more |" in text
    assert "| `bar` | `4` | of bars |" in text
    assert "| `classes` | `10` | number of logits, K. |" in text  # its docstring's words
    assert "added with `+`: `width` (`16`)" in text


def test_a_key_without_a_comment_has_the_meaning_in_the_default_option(conf):
    (conf / "dataset" / "mine.yaml").write_text("# My images.\nshape: [1, 2, 3]\nclasses: 7 # seven\n")
    keys = {
        key.path: key.meaning for key in reference.option_keys(reference.read_option(conf / "dataset" / "mine.yaml"))
    }
    assert keys == {"shape": "channels, height, width of every image; checked against the first", "classes": "seven"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("a: b # c", [("a", "b", "c")]),
        ("a: 'b # c' # d", [("a", "'b # c'", "d")]),
        ("# file\n\n# above\na: 1\nb: 2", [("a", "1", "above"), ("b", "2", "")]),
        ("# the file alone\na: 1", [("a", "1", "")]),
        ("a: # whole\n  b: 1\n  c: 2 # own", [("a", "", "whole"), ("a.b", "1", ""), ("a.c", "2", "own")]),
        ("a: {_target_: x.Y, b: {c: 1}} # d", [("a", "Y(b={c: 1})", "d")]),
        ("a: [1,\n  2] # d", [("a", "[1, 2]", "d")]),
        ("a: # d\n  - {_target_: x.Y, b: 1}\n  - {_target_: x.Y, b: 2}", [("a", "[Y(b=1), Y(b=2)]", "d")]),
    ],
)
def test_comments_belong_to_their_keys(tmp_path, monkeypatch, text, result):
    monkeypatch.setattr(reference, "CONF", tmp_path)
    (tmp_path / "train.yaml").write_text("defaults: []")
    file = tmp_path / "group" / "option.yaml"
    file.parent.mkdir()
    file.write_text(text)
    keys = reference.option_keys(reference.read_option(file))
    assert [(key.path, key.value, key.meaning) for key in keys] == result

"""Every value is read back unchanged, and options may be anywhere."""

import json
import os

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from gauntlet.config.command_line import expand_home, options_first, prepared, quoted, with_home
from gauntlet.errors import UserError

PARSER = OverridesParser.create()


def value_of(word):
    """What a config holds after an override."""
    return OmegaConf.create({"key": PARSER.parse_override(word).value()})["key"]


@settings(max_examples=60)
@given(st.text(st.characters(exclude_characters="\0"), max_size=12) | st.text("\\\"'${}~ä,=[]", max_size=9))
def test_any_text_survives_quotes(text):
    assert value_of(f"key={quoted(text)}") == text


PATHS = ["/Ünïcode home/x", os.fsdecode(b"/l\xe4ufe"), 'a"b', "a\\", 'a\\"', "${x}", "\\${x}"]


@pytest.mark.parametrize("text", PATHS)
def test_paths_survive_quotes(text):
    assert value_of(f"key={quoted(text)}") == text


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ('outputs="~/runs"', 'outputs="/home/Änne/runs"'),
        ("outputs=~/runs", 'outputs="/home/Änne/runs"'),
        ("outputs='~'", 'outputs="/home/Änne"'),
        ("runs=[~/a,'~/b c',d]", 'runs=["/home/Änne/a","/home/Änne/b c",d]'),
        ("checkpoint=~/a,~/b", 'checkpoint="/home/Änne/a","/home/Änne/b"'),
        ("~optimizer.momentum", "~optimizer.momentum"),
        ("~optimizer.momentum=0.9", "~optimizer.momentum=0.9"),
        ("folder=a~b", "folder=a~b"),
        ('name="see ~/a, ~/b"', 'name="see ~/a, ~/b"'),
        ("outputs=~no-such-user/x", "outputs=~no-such-user/x"),
    ],
)
def test_home_is_where_a_shell_would_have_put_it(monkeypatch, word, expected):
    monkeypatch.setenv("HOME", "/home/Änne")
    assert with_home(word) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("defense=normal -m seed=0,1", "-m defense=normal seed=0,1"),
        ("-m defense=normal --config-dir conf seed=0", "-m --config-dir conf defense=normal seed=0"),
        ("a=1 -cd x=y a=1", "-cd x=y a=1 a=1"),
        ("a=1 --cfg job b=2 --resolve", "--cfg job --resolve a=1 b=2"),
        ("a=1 b=2", "a=1 b=2"),
    ],
)
def test_options_may_be_anywhere(words, expected):
    assert options_first(words.split()) == expected.split()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["defense=normal", "--multi-run"], "unrecognized arguments: --multi-run"),
        (["--cfg", "jobs"], "argument --cfg/-c: invalid choice: 'jobs'"),
        (["defense=normal", "--config-dir"], "argument --config-dir/-cd: expected one argument"),
    ],
)
def test_an_unknown_option_is_one_line(words, hint):
    with pytest.raises(UserError) as refusal:
        prepared(words)
    assert hint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unknown_option_of_a_command_is_one_line(door):
    result = door("train", "defense=normal", "--multi-run")
    assert (result.code, len(result.err.strip().splitlines())) == (2, 1), result.err
    assert "--multi-run" in result.err


def test_json_is_no_quoting():
    """Why `quoted` is needed: JSON writes letters as escapes that Hydra takes for text."""
    assert value_of(f"key={json.dumps('Ü')}") != "Ü"


def test_a_home_in_a_config_file_is_expanded_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    given = {"a": {"root": "~/data", "n": 1, "none": None}, "b": ["~/x", "${a.root}", "~x"], "c": "???"}
    config = OmegaConf.create(given)
    expand_home(config)
    assert OmegaConf.to_container(config, resolve=True) == {
        "a": {"root": "/home/me/data", "n": 1, "none": None},
        "b": ["/home/me/x", "/home/me/data", "~x"],
        "c": "???",
    }

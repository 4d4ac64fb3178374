"""Prepare the words of a command line for Hydra."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, ListConfig, Node, OmegaConf

from gauntlet.errors import UserError

_TOKEN = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^"',\[\]{}():=\s]+""")

_VARIABLE = re.compile(r"\$\{oc\.env:[^{}]*\}")
_KEY = re.compile(r"[\\()\[\]{}:=, \t]")  # characters that a key escapes in Hydra's grammar


def prepared(words: Sequence[str]) -> list[str]:
    """Return the words in an order that Hydra takes, with `~` expanded as by a shell.

    Args:
        words: without the program.

    Raises:
        UserError: an option is unknown or lacks its value.
    """
    return [with_home(word) for word in options_first(words)]


def options_first(words: Sequence[str]) -> list[str]:
    """Turn `defense=normal -m seed=0,1` into `-m defense=normal seed=0,1`: argparse wants overrides in one block.

    Raises:
        UserError: an option is unknown or lacks its value.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}: expected key=value, or an option that --hydra-help explains")

    parser.error = refuse  # type: ignore[method-assign]
    overrides = list(parser.parse_intermixed_args(words).overrides)
    options = list(words)
    for override in overrides:
        options.remove(override)
    return [*options, *overrides]


def with_home(word: str) -> str:
    """Expand `~` in `outputs="~/runs"`; shells expand it only where it is not quoted."""
    key, sign, value = word.partition("=")
    if not sign or "~" not in value:
        return word
    return f"{key}={_TOKEN.sub(lambda match: _expanded(match[0]), value)}"


def _expanded(token: str) -> str:
    text = token[1:-1] if token[0] in "\"'" else token
    if not text.startswith("~"):
        return token
    path = os.path.expanduser(text)  # noqa: PTH111  (Path raises for an unknown home)
    return token if path == text else quoted(path)


def quoted(text: str) -> str:
    """Quote any text as a value of Hydra's grammar, so that it is read back unchanged."""
    escaped = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)
    return QuotedString(escaped, Quote.double).with_quotes()


def as_value(value: Any) -> str:
    """Write a value of a resolved config in Hydra's grammar, so that it is read back unchanged."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        pairs = [f"{_KEY.sub(_escaped, str(key))}:{as_value(item)}" for key, item in value.items()]
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(as_value, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


def shown(value: object) -> str:
    """Return a value of a config for a message: as it is typed, and empty or blank text in quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    is_blank = isinstance(value, str) and (not value or value != value.strip())
    return repr(value) if is_blank else str(value)


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[0]}"


def expand_home(config: DictConfig | ListConfig) -> None:
    """Expand every value of a config that begins with `~/`, in place."""
    if config._is_none() or config._is_interpolation():
        return
    keys = range(len(config)) if isinstance(config, ListConfig) else list(config)
    for key in keys:
        value = config._get_node(key)
        if isinstance(value, DictConfig | ListConfig):
            expand_home(value)
        elif isinstance(value, Node) and isinstance(text := value._value(), str) and text.startswith("~/"):
            config[key] = os.path.expanduser(text)  # noqa: PTH111  (Path raises for an unknown home)


def decoding(text: str) -> str:
    """Return the end of an error about text: how to decode it, also where it comes from an environment variable."""
    words = OmegaConf.to_container(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    for word in words or ():
        key, _, given = str(word).partition("=")
        variable = given.strip("\"'")
        if _VARIABLE.fullmatch(variable) and str(OmegaConf.create({"value": variable}).value) == text:
            return f", not text: write '{key}=\"${{oc.decode:{variable}}}\"'"
    return f', not text: write {text} without quotes, or "${{oc.decode:${{oc.env:NAME}}}}" for a variable NAME'

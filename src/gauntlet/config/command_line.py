"""The words of a command line, as Hydra can take them."""

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
_KEY = re.compile(r"[\\()\[\]{}:=, \t]")  # what Hydra's grammar lets a key escape


def prepared(words: Sequence[str]) -> list[str]:
    """Words in an order that Hydra takes, with `~` as the shell would have expanded it.

    Args:
        words: without the program.

    Raises:
        UserError: there is no such option, or it lacks its value.
    """
    return [with_home(word) for word in options_first(words)]


def options_first(words: Sequence[str]) -> list[str]:
    """`defense=normal -m seed=0,1` as `-m defense=normal seed=0,1`: argparse takes overrides only in one piece.

    Raises:
        UserError: there is no such option, or it lacks its value.
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
    """`outputs="~/runs"` with the home folder in it; shells expand `~` only where it is not quoted."""
    key, sign, value = word.partition("=")
    if not sign or "~" not in value:
        return word
    return f"{key}={_TOKEN.sub(lambda found: _expanded(found[0]), value)}"


def _expanded(token: str) -> str:
    text = token[1:-1] if token[0] in "\"'" else token
    if not text.startswith("~"):
        return token
    path = os.path.expanduser(text)  # noqa: PTH111  (Path would raise for a home that is not known)
    return token if path == text else quoted(path)


def quoted(text: str) -> str:
    """Text as a value in Hydra's grammar: whatever is in it, it arrives as it is."""
    escaped = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    return QuotedString(escaped, Quote.double).with_quotes()


def as_value(value: Any) -> str:
    """A value of a resolved config in Hydra's grammar, from which it is read back as it is."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_KEY.sub(_escaped, str(key))}:{as_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(as_value, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def expand_home(config: DictConfig | ListConfig) -> None:
    """Put the home folder into every value of a config that begins with `~/`, in place."""
    keys = range(len(config)) if isinstance(config, ListConfig) else list(config)
    for key in keys if not config._is_none() and not config._is_interpolation() else ():
        value = config._get_node(key)
        if isinstance(value, DictConfig | ListConfig):
            expand_home(value)
        elif isinstance(value, Node) and isinstance(text := value._value(), str) and text.startswith("~/"):
            config[key] = os.path.expanduser(text)  # noqa: PTH111  (as above)


def decoding(text: str) -> str:
    """The rest of a refusal of text: how a value of an environment variable, which is text to Hydra, becomes one."""
    words = OmegaConf.to_container(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    for key, _, given in (str(word).partition("=") for word in words or ()):
        variable = given.strip("\"'")
        if _VARIABLE.fullmatch(variable) and str(OmegaConf.create({"value": variable}).value) == text:
            return f", not text: write '{key}=\"${{oc.decode:{variable}}}\"'"
    return f', not text: write {text} without quotes, or "${{oc.decode:${{oc.env:NAME}}}}" for a variable NAME'

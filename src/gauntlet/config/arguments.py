"""Values of a config against what constructors say they take: a word where a number belongs is refused by its key."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import hydra.utils
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from gauntlet.config.command_line import decoding
from gauntlet.errors import UserError

_KINDS: Mapping[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    str: ((str,), "a word"),
    types.NoneType: ((types.NoneType,), "null"),
}


def check_arguments(node: Any, path: str = "") -> None:
    """Refuse a number, a word or a list where a constructor's annotation says another of these.

    Args:
        node: plain dicts and lists with `_target_`s that were checked.
        path: of the node, for messages.

    Raises:
        UserError: naming the key, what came, and what was expected.
    """
    if isinstance(node, Mapping):
        hints = _hints(str(node["_target_"])) if "_target_" in node else {}
        for key, value in node.items():
            place = f"{path}.{key}".lstrip(".")
            if key in hints and not _fits(value, hints[key]):
                raise UserError(f"{place} is {value}: expected {_said(hints[key])}{_instead(value, hints[key])}")
            check_arguments(value, place)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            check_arguments(value, f"{path}[{index}]")


def _hints(target: str) -> Mapping[str, Any]:
    thing = hydra.utils.get_object(target)
    try:
        if is_dataclass(thing):  # whose inherited fields are annotated in the words of another file
            return typing.get_type_hints(thing)
        parameters = inspect.signature(thing, eval_str=True).parameters
    except (AttributeError, NameError, SyntaxError, TypeError, ValueError):  # of names that only type checkers import
        return {}
    return {name: parameter.annotation for name, parameter in parameters.items()}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is one that an annotation names. Of objects, and what makes them, nothing is known here."""
    if isinstance(value, Mapping):
        return True
    if hint in _KINDS:
        return isinstance(value, _KINDS[hint][0]) and (hint is bool or not isinstance(value, bool))
    if _is_union(hint):
        return any(_fits(value, one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is Sequence and (each := typing.get_args(hint)):
        return isinstance(value, list) and all(_fits(one, each[0]) for one in value)
    return hint is not Tensor


def _instead(value: Any, hint: Any) -> str:
    """What to write for text that reads as the right thing."""
    return decoding(value) if isinstance(value, str) and _fits(_decoded(value), hint) else ""


def _decoded(text: str) -> Any:
    try:
        return OmegaConf.create({"text": text, "value": "${oc.decode:${text}}"}).value
    except OmegaConfBaseException:
        return text


def _said(hint: Any) -> str:
    if hint in _KINDS:
        return _KINDS[hint][1]
    if _is_union(hint):
        return " or ".join(_said(one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is not Sequence:
        return f"a {getattr(hint, '__name__', hint)}"
    (each,) = typing.get_args(hint)
    return f"a list, each of it {_said(each)}"


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)

"""Check the values of a config against the annotations of the constructors that take them."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import hydra.utils
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from gauntlet.config.command_line import decoding, shown
from gauntlet.errors import UserError

_KINDS: Mapping[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    str: ((str,), "a word"),
    types.NoneType: ((types.NoneType,), "null"),
}

_PLAIN = (int, float, str, list, dict)
"""What a config holds without a `_target_`."""


def check_arguments(node: Any, path: str = "") -> None:
    """Refuse a number, a word or a list where the constructor's annotation names another of these.

    Args:
        node: plain dicts and lists; their `_target_`s were checked before.
        path: key of the node, for messages.

    Raises:
        UserError: with the key, the given value and the expected type.
    """
    if isinstance(node, Mapping):
        hints = _hints(str(node["_target_"])) if "_target_" in node else {}
        for key, value in node.items():
            key_path = f"{path}.{key}".lstrip(".")
            hint = hints.get(key)
            if key in hints and not _matches(value, hint):
                expected = f"{_describe(hint)}{_decoding_hint(value, hint)}"
                raise UserError(f"{key_path} is {shown(value)}: expected {expected}")
            check_arguments(value, key_path)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            check_arguments(value, f"{path}[{index}]")


def _hints(target: str) -> Mapping[str, Any]:
    """Return the annotations of a target's arguments; none where they cannot be evaluated."""
    constructor = hydra.utils.get_object(target)
    try:
        # annotations of inherited fields use names of the module that defines the base class
        if is_dataclass(constructor):
            return typing.get_type_hints(constructor)
        parameters = inspect.signature(constructor, eval_str=True).parameters
    except (AttributeError, NameError, SyntaxError, TypeError, ValueError):  # names imported under TYPE_CHECKING
        return {}
    return {name: parameter.annotation for name, parameter in parameters.items()}


def _matches(value: Any, hint: Any) -> bool:
    """Return whether a plain value has the annotated type. Objects of any class, and the nodes that make them, pass."""
    if isinstance(value, Mapping) and "_target_" in value:
        return True
    if hint in _KINDS:
        if isinstance(value, float) and math.isnan(value):
            return False
        return isinstance(value, _KINDS[hint][0]) and (hint is bool or not isinstance(value, bool))
    if _is_union(hint):
        return any(_matches(value, one) for one in typing.get_args(hint))
    element = typing.get_args(hint)
    if typing.get_origin(hint) is Sequence and element:
        return isinstance(value, list) and all(_matches(one, element[0]) for one in value)
    if _needs_node(hint):
        return value is None or not isinstance(value, _PLAIN)  # of null the class itself says what it stands for
    return hint is not Tensor


def _needs_node(hint: Any) -> bool:
    """Return whether only a node can make the argument: a function, or an object of one of gauntlet's classes."""
    if typing.get_origin(hint) is Callable:
        return True
    return isinstance(hint, type) and hint.__module__.startswith("gauntlet.")


def _decoding_hint(value: Any, hint: Any) -> str:
    """Return what to write instead of text that would decode to the right type."""
    if isinstance(value, str) and _matches(_decoded(value), hint):
        return decoding(value)
    return ""


def _decoded(text: str) -> Any:
    try:
        return OmegaConf.create({"text": text, "value": "${oc.decode:${text}}"}).value
    except OmegaConfBaseException:
        return text


def _describe(hint: Any) -> str:
    if hint in _KINDS:
        return _KINDS[hint][1]
    if _is_union(hint):
        return " or ".join(_describe(one) for one in typing.get_args(hint))
    if _needs_node(hint):
        return f"a node with the _target_ of a {getattr(hint, '__name__', 'function')}"
    if typing.get_origin(hint) is not Sequence:
        return f"a {getattr(hint, '__name__', hint)}"
    (element,) = typing.get_args(hint)
    return f"a list, each of it {_describe(element)}"


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)

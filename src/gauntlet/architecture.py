"""The description of a network without the numbers in its state dict: classes, public attributes, names and shapes.

Modes, hooks, devices, whether a layer works in place, an instance's own `forward` and private attributes are left out.
A public attribute that a forward writes is included: counters and caches belong in private attributes.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gauntlet.class_identity import class_identity, is_library, source_digest

_STATE = frozenset(("training", "inplace", "forward", "device"))
"""Attributes that do not change what is computed; `forward` is set on a folded layer."""
_EMPTY = CellType()
_PLAIN = (bool, int, float, complex, str, bytes, range, slice, Enum, torch.dtype, np.generic, re.Pattern)
_IN_PLACE = re.compile(r"(?:, )?\binplace(?:=True|=False)?(?=, |$)")


def architecture(network: nn.Module) -> Any:
    """The description as plain JSON values.

    * The `gauntlet.class_identity` of every submodule, and the `extra_repr()` of those of libraries.
    * The public attributes that differ from the defaults of the constructor: plain values, tensors by content,
      functions by their code, other objects by class and attributes. Of a library's class only the arguments of its
      constructor, so that a new version of the library may have further attributes.
    * Buffers that are not in the state dict, by content.

    Raises:
        UserError: the source of a class without a declared identity cannot be read.
    """
    return _Description(network, {}).whole()


class _Description:
    """Describes one network. `outer` are the modules of the network that it is an attribute of."""

    def __init__(self, network: nn.Module, outer: Mapping[int, str]) -> None:
        self._network = network
        self._names = {**outer, **{id(part): name for name, part in network.named_modules()}}
        self._within: list[int] = []  # objects being described: an object may refer to itself

    def whole(self) -> Any:
        parts = self._network.named_modules(remove_duplicate=False)
        shapes = {name: list(tensor.shape) for name, tensor in self._network.state_dict().items()}
        return [{name: self._module(part) for name, part in parts}, shapes]

    def _module(self, module: nn.Module) -> Any:
        library = is_library(type(module))
        options = _IN_PLACE.sub("", module.extra_repr()).removeprefix(", ") if library else ""
        code = (
            getattr(module, "code", "") if library else ""
        )  # of torch.fx and TorchScript, whose class is always the same
        buffers = {}
        for name in sorted(module._non_persistent_buffers_set):
            buffer = getattr(module, name)
            if not name.startswith("_") and buffer is not None:
                buffers[name] = _content(buffer)
        return [class_identity(type(module)), options, str(code), self._attributes(module), buffers]

    def _attributes(self, thing: Any) -> dict[str, Any]:
        """The public attributes of an object that differ from the defaults of its constructor."""
        defaults = _defaults(type(thing))
        parts = fields(thing) if is_dataclass(thing) else ()
        hidden = _STATE.union(part.name for part in parts if not part.metadata.get("identity", True))
        attributes = {}
        for name, value in sorted(vars(thing).items()):
            included = not name.startswith("_") and name not in hidden and not isinstance(value, torch.device)
            if included and (name in defaults or not is_library(type(thing))):
                described = self._value(value)
                if not _is_default(described, defaults.get(name)):
                    attributes[name] = described
        return attributes

    def _value(self, thing: Any) -> Any:
        if isinstance(thing, Tensor):
            return _content(thing)
        if isinstance(thing, np.ndarray) and not thing.dtype.hasobject:
            return [str(thing.dtype), list(thing.shape), hashlib.sha256(thing.tobytes()).hexdigest()]
        if isinstance(thing, Path):  # the path of a file is not part of its content
            return hashlib.sha256(thing.read_bytes()).hexdigest() if thing.is_file() else thing.as_posix()
        if isinstance(thing, type):
            return class_identity(thing)
        if id(thing) in self._names:
            return ["module", self._names[id(thing)]]
        if id(thing) in self._within:
            return "itself"
        try:
            self._within.append(id(thing))
            return _plain(thing) if _is_plain(thing) else self._composite(thing)
        finally:
            self._within.pop()

    def _composite(self, thing: Any) -> Any:
        if isinstance(thing, Mapping):
            return [[self._value(key), self._value(value)] for key, value in thing.items()]
        if isinstance(thing, Sequence | np.ndarray):
            return [self._value(value) for value in thing]
        if isinstance(thing, set | frozenset):
            return sorted((self._value(value) for value in thing), key=json.dumps)
        if isinstance(thing, nn.Module):  # not registered: the outer state dict does not have its weights
            state = {name: _content(tensor) for name, tensor in thing.state_dict().items()}
            return [_Description(thing, self._names).whole(), state]
        if isinstance(thing, partial):
            return [self._value(thing.func), self._value(thing.args), self._value(thing.keywords)]
        if isinstance(thing, MethodType):
            return [self._value(thing.__func__), self._value(thing.__self__)]
        if isinstance(thing, FunctionType):
            return self._function(thing)
        if isinstance(thing, ModuleType) or not hasattr(
            thing, "__dict__"
        ):  # also objects of extensions: built-in functions, generators
            return [type(thing).__name__, getattr(thing, "__name__", "")]
        return [class_identity(type(thing)), self._attributes(thing)]

    def _function(self, function: FunctionType) -> Any:
        """A library's function by name; others by their file's source, bytecode, defaults and closure."""
        if is_library(function):
            return f"{function.__module__.partition('.')[0]}.{function.__qualname__}"
        closure = [cell.cell_contents for cell in function.__closure__ or () if cell != _EMPTY]
        bound = [self._value(part) for part in (function.__defaults__, function.__kwdefaults__, closure)]
        source = source_digest(function.__module__, function.__code__)
        return [function.__qualname__, source, _code(function.__code__), bound]


def _is_plain(thing: Any) -> bool:
    return thing is None or isinstance(thing, _PLAIN)


def _plain(thing: Any) -> Any:
    if isinstance(thing, np.generic):
        thing = thing.item()
    if isinstance(thing, float) and thing.is_integer():
        return int(thing)
    if thing is None or (isinstance(thing, bool | int | float | str) and not isinstance(thing, Enum)):
        return thing
    return [type(thing).__name__, str(thing)]


def _is_default(described: Any, default: Any) -> bool:
    """Whether a described value equals a default that is plain, or a tuple of plain values."""
    values = default if isinstance(default, tuple) else (default,)
    if isinstance(default, type) or not all(_is_plain(value) for value in values):
        return False
    plain = [_plain(value) for value in values]
    return json.dumps(described) == json.dumps(plain if isinstance(default, tuple) else plain[0])


def _defaults(cls: type) -> dict[str, Any]:
    """The arguments of the constructor and their defaults, with those of base classes if it passes arguments on."""
    defaults: dict[str, Any] = {}
    for base in cls.__mro__:
        if base in (nn.Module, object):
            break
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            defaults = {each.name: each.default for each in parameters} | defaults
            if all(each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL) for each in parameters):
                break
    return defaults


def _content(tensor: Tensor) -> Any:
    """Type, shape and a digest of the numbers."""
    dense = tensor.detach()
    dense = dense.dequantize() if dense.is_quantized else dense
    dense = dense.to_dense() if dense.layout is not torch.strided else dense
    numbers = "" if dense.is_meta else hashlib.sha256(bytes_of(dense)).hexdigest()
    return [str(tensor.dtype), list(tensor.shape), numbers]


def bytes_of(tensor: Tensor) -> bytes:
    """The numbers of a dense tensor in the order of its axes, independent of memory layout and device."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _code(code: CodeType) -> Any:
    """The bytecode, which distinguishes two lambdas of one file; it depends on the version of Python."""
    return [code.co_code.hex(), list(code.co_names), [_constant(each) for each in code.co_consts]]


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _code(value)
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)

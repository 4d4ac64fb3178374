"""What a class is called in an identity: the name and version that it declares, and where it declares none, its source.

A declaration is `identity: ClassVar[str] = "pgd/1"` in the body of the class. It outlives moves, renamings and edits
that change no result; what changes a result, or a default, needs a new version. A subclass never inherits it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import linecache
import re
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

from gauntlet.errors import UserError

_LIBRARIES = frozenset(("torch", "torchvision", "timm", "lightning", "pytorch_lightning", "torchmetrics", "numpy"))
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_NAME_AND_VERSION = re.compile(r"[^\s/@](?:[^\s@]*[^\s@/])?/[1-9][0-9]*")


def class_identity(cls: type) -> str:
    """A class as it is called in identities, never by its module.

    `pgd/1` where it declares that; `torch.Conv2d` of a library that is known by its name; else the name of the class
    and a digest of the normalised source of its file, and of the files and declarations of its base classes.

    Raises:
        UserError: the declaration is no name and version, or there is none and the source cannot be read.
    """
    if declared := declared_identity(cls):
        return declared
    if is_library(cls):
        return f"{_package(cls)}.{cls.__qualname__}"
    bases = [base for base in cls.__mro__[1:] if declared_identity(base) or not _is_ours_or_library(base)]
    parts = [declared_identity(each) or _digest_of_class_source(each) for each in (cls, *bases)]
    if None in parts:
        raise UserError(
            f"the source of {cls.__qualname__} cannot be read, so its results cannot be told from those of another"
            f' version: declare identity: ClassVar[str] = "{_snake_case(cls.__name__)}/1" in the class'
        )
    return f"{cls.__qualname__}@{_sha256(list(dict.fromkeys(parts)))[:16]}"


def declared_identity(cls: type) -> str | None:
    """The name and version in the body of the class itself; None where it has none.

    Raises:
        UserError: it is a string of another form.
    """
    declared = vars(cls).get("identity")
    if not isinstance(declared, str):  # a method or a property of that name declares nothing
        return None
    if not _NAME_AND_VERSION.fullmatch(declared):
        expected = f'expected a name and a version, such as "{_snake_case(cls.__name__)}/1"'
        raise UserError(f"{cls.__qualname__}.identity is {declared!r}: {expected}")
    return declared


def is_library(thing: Any) -> bool:
    """Whether a class or function belongs to Python, torch or a library that is known by the names of its classes."""
    return _package(thing) in _LIBRARIES or _is_of_python(thing)


def _is_of_python(thing: Any) -> bool:
    """By name and by place: a user's own file may be called `code` or `test`."""
    package = _package(thing)
    if package not in sys.stdlib_module_names or package == "__main__":
        return False
    file = getattr(sys.modules.get(package), "__file__", None)
    return file is None or Path(file).is_relative_to(_STANDARD_LIBRARY)


def source_digest(module: str, code: CodeType | None = None) -> str | None:
    """SHA-256 of the normalised source of a file: no comments, docstrings, blank lines or positions.

    Args:
        module: the name of the module whose file is meant.
        code: of a function in it, for modules without a file, such as a notebook.

    Returns:
        None where there is no source.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None and code is not None:
        file = code.co_filename
    return None if file is None else _digest_of_file(file, module)


@lru_cache(maxsize=1024)  # one answer per process, even if the file is edited meanwhile
def _digest_of_file(file: str, module: str) -> str | None:
    source = "".join(linecache.getlines(file, vars(sys.modules[module]) if module in sys.modules else None))
    try:
        return _sha256(_normalised(ast.parse(source))) if source.strip() else None
    except (SyntaxError, ValueError):
        return None


def _digest_of_class_source(cls: type) -> str | None:
    codes = (code for value in vars(cls).values() if isinstance(code := getattr(value, "__code__", None), CodeType))
    own = [code for code in codes if code.co_qualname.startswith(f"{cls.__qualname__}.")]  # none that dataclass made
    found = (source_digest(cls.__module__, code) for code in (*own, None))
    return next((digest for digest in found if digest), None)


def _is_ours_or_library(cls: type) -> bool:
    return is_library(cls) or _package(cls) == "gauntlet"


def _normalised(node: Any) -> Any:
    """A syntax tree as JSON values: empty fields left out, so that it is the same in every version of Python."""
    if isinstance(node, list):
        return [_normalised(item) for item in node]
    if not isinstance(node, ast.AST):
        return f"{type(node).__name__} {node!r}"
    values = {name: getattr(node, name, None) for name in node._fields if name not in ("kind", "type_comment")}
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(node):
        values["body"] = node.body[1:]
    if isinstance(node, ast.Constant):
        return ["Constant", f"{type(node.value).__name__} {node.value!r}"]
    return [
        type(node).__name__,
        {name: _normalised(value) for name, value in values.items() if value is not None and value != []},
    ]


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _package(thing: Any) -> str:
    return str(getattr(thing, "__module__", None) or "builtins").partition(".")[0]


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _sha256(description: Any) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()

"""Write tests/golden/public_api.txt: every public name of the package with its signature.

    python -m scripts.pin_api

Public is what a package's `__all__` or a module of `MODULES` offers. A name that is renamed or removed, or an argument
that changes, changes this file, so that it is seen in a review.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "public_api.txt"
PACKAGES = (
    *("acceleration", "attacks", "callbacks", "certificates", "corruptions", "data", "defenses", "distances"),
    *("evaluation", "loggers", "models", "reports", "testing", "threats"),
)
MODULES = ("descriptions", "errors", "goals", "identity", "kinds", "losses", "noise", "scopes", "transforms", "varied")


def public_names() -> Iterator[tuple[str, Any]]:
    """Dotted names and what they are."""
    for package in PACKAGES:
        module = import_module(f"gauntlet.{package}")
        for name in sorted(module.__all__):
            yield f"gauntlet.{package}.{name}", getattr(module, name)
    for part in MODULES:
        module = import_module(f"gauntlet.{part}")
        for name, value in sorted(vars(module).items()):
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
                yield f"gauntlet.{part}.{name}", value


def described(name: str, value: Any) -> list[str]:
    """One line for a function or a constant; for a class also one per public method and property."""
    if inspect.isclass(value) and issubclass(value, Enum):
        return [f"enum {name}: {', '.join(value.__members__)}"]
    if inspect.isclass(value):
        lines = [f"class {name}{_signature(value)}"]
        for member, found in sorted(vars(value).items()):
            if member.startswith("_"):
                continue
            if isinstance(found, property):
                lines.append(f"    {member}: property")
            elif callable(found) or isinstance(found, classmethod | staticmethod):
                lines.append(f"    {member}{_signature(getattr(value, member))}")
        return lines
    if callable(value):
        return [f"def {name}{_signature(value)}"]
    return [f"{name}: {type(value).__name__}"]


def _signature(value: Any) -> str:
    """Names of the arguments; `=...` where there is a default, which tests/golden/identities.json knows."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):  # aliases of types have none
        return ""
    plain = [parameter.replace(annotation=parameter.empty, default=_default(parameter)) for parameter in parameters]
    return str(inspect.Signature(plain)).replace("=Ellipsis", "=...")


def _default(parameter: inspect.Parameter) -> Any:
    return parameter.empty if parameter.default is parameter.empty else ...


def written() -> str:
    """The text of the file."""
    lines: list[str] = []
    for name, value in public_names():
        lines += described(name, value)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    GOLDEN.write_text(written())

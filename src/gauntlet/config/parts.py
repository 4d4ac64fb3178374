"""Check the parts of a config that the commands themselves read: each is there, and of the right type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gauntlet.config.command_line import shown
from gauntlet.errors import UserError

_MAPPINGS = ("dataset", "dataset.module", "model", "attack_suite", "evaluation", "names")
_OF_TRAINING = ("defense", "trainer")
_OPTIONAL = (
    "dataset.recipe",
    "dataset.augmentation",
    "dataset.reference",
    "dataset.extra",
    "dataset.bounds",
    "dataset.train_bounds",
    "callbacks",
    "logger",
    "defense.row",
)
_VALUES: Mapping[str, tuple[type, str]] = {
    "dataset.shape": (list, "[channels, height, width]"),
    "dataset.classes": (object, "how many there are"),
    "evaluation.device": (str, "auto, cpu, cuda or cuda:N"),
    "suite": (object, "a name for files"),
    "outputs": (object, "a folder"),
    "allow": (object, "a list of packages"),
}
_VALUES_OF_TRAINING: Mapping[str, tuple[type, str]] = {
    "seed": (object, "an integer"),
    "dataset.recipe.batch_size": (object, "how many images of each process are in a step"),
    "restart": (object, "true or false"),
    "names.defense": (str, "what ${hydra:runtime.choices.defense} says"),
}
_VALUES_OF_EVALUATION: Mapping[str, tuple[type, str]] = {
    "bounds": (object, "a list of shares, or null"),
    "trained_on": (object, "names of threat models, or null"),
    "baseline": (object, "of corruption errors, or null"),
    "dry_run": (object, "true or false"),
}
_ABSENT = object()


def check_training_parts(config: Mapping[str, Any]) -> None:
    """Check the config of `train.py`.

    Raises:
        UserError: a part is missing or of another type; with its key.
    """
    _check(config, (*_MAPPINGS, *_OF_TRAINING), {**_VALUES, **_VALUES_OF_TRAINING})


def check_evaluation_parts(config: Mapping[str, Any]) -> None:
    """Check the config of `evaluate.py` once dataset and model are known, as `check_training_parts` does."""
    _check(config, _MAPPINGS, {**_VALUES, **_VALUES_OF_EVALUATION})


def check_given_parts(config: DictConfig) -> None:
    """Check dataset and model of `evaluate.py` before the checkpoint's own take their place: mappings or null.

    Raises:
        UserError: one is of another type; with its key.
    """
    for key in ("dataset", "model", "names"):
        given = config.get(key)
        if not OmegaConf.is_dict(given) and (given is not None or key == "names"):
            raise UserError(f"{key} is {shown(given)}: expected a mapping, as the files of conf/ have it")


def path_of(value: Any, key: str) -> Path:
    """Return the path that a key of a config gives.

    Raises:
        UserError: it is no string, such as a number, or holds a character that no path has; with its key.
    """
    if not isinstance(value, str):
        given = shown(value)
        raise UserError(f"{key}={given}: expected a path; for a file or folder of that name write {key}=./{given}")
    if "\0" in value:
        raise UserError(f"{key}={value}: expected a path, which has no null character")
    return Path(value)


def expect_kind(thing: object, kind: type, path: str) -> None:
    """Check the class of an object that a node of the config makes.

    Args:
        thing: the object.
        kind: expected class.
        path: key of the node.

    Raises:
        UserError: it is of another class.
    """
    if not isinstance(thing, kind):
        raise UserError(f"{path} makes a {type(thing).__name__}: expected a {kind.__name__}")


def _check(config: Mapping[str, Any], mappings: tuple[str, ...], values: Mapping[str, tuple[type, str]]) -> None:
    for key in mappings:
        _expect(_found(config, key), dict, key, "a mapping, as the files of conf/ have it")
    for key in _OPTIONAL:
        if _found(config, key) not in (_ABSENT, None):
            _expect(_found(config, key), dict, key, "a mapping, or null")
    for key in ("callbacks", "logger"):
        for name, node in (config.get(key) or {}).items():
            if node is not None:
                _expect(node, dict, f"{key}.{name}", "a mapping, or null")
    for key, (kind, expected) in values.items():
        _expect(_found(config, key), kind, key, expected)
    for key, name in config["names"].items():
        if name is not None:
            _expect(name, str, f"names.{key}", "a word")


def _expect(value: Any, kind: type, key: str, expected: str) -> None:
    if value is _ABSENT:
        raise UserError(f"{key} is missing: expected {expected}")
    if not isinstance(value, kind):
        raise UserError(f"{key} is {shown(value)}: expected {expected}")


def _found(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config.get(name, _ABSENT) if isinstance(config, Mapping) else _ABSENT
    return config

"""Write tests/golden/identities.json: every declared identity with its defaults, and the identity of every YAML.

    python -m scripts.pin_identities

A default that changed without a new version is refused: records made with another default would be reused under the
same identity. Bump the version in the class, then run this again.
"""

from __future__ import annotations

import json
import pkgutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from torchvision.models import get_model

import gauntlet
from gauntlet.class_identity import declared_identity
from gauntlet.config.compose import CONF, plain, register_resolvers
from gauntlet.config.instantiate import instantiate
from gauntlet.descriptions import differences
from gauntlet.errors import UserError
from gauntlet.evaluation import AttackSuite
from gauntlet.identity import describe, described_defaults
from gauntlet.runs.references import without_weights

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "identities.json"
_GROUPS = ("attack", "attack_suite", "corruptions", "distance", "model", "threat_model")
LEFT_OUT = ("distance/reference", "model/custom", "model/timm", "model/torchvision")  # refer to others, or build none
_SEARCHED = {
    "autoattack_l1": "l1",
    "fast_lpa": "perceptual",
    "first_order": "perceptual",
    "jpeg": "jpeg",
    "lpa": "perceptual",
    "narrow": "narrow",
    "pat": "perceptual_distance",
    "perceptual": "perceptual",
    "ppgd": "perceptual",
    "recoloradv": "recoloradv",
    "sparse_apgd": "l1",
    "sparse_apgd_targeted": "l1",
    "stadv": "stadv",
}
"""The threat model of an attack, by the last part of its name; L∞ for all others."""


def pinned() -> dict[str, Any]:
    """Return the content of the file: `classes` by identity, `configs` by option."""
    return {"classes": defaults_of(shipped()), "configs": dict(sorted(_configs()))}


def shipped() -> list[type]:
    """Return every class of the package that declares an identity."""
    classes: dict[type, None] = {}
    for module in pkgutil.walk_packages(gauntlet.__path__, "gauntlet."):
        members = [each for each in vars(import_module(module.name)).values() if isinstance(each, type)]
        classes |= {cls: None for cls in members if cls.__module__ == module.name and declared_identity(cls)}
    return list(classes)


def defaults_of(classes: Sequence[type]) -> dict[str, Any]:
    """Return the described defaults of each class, by its identity.

    Raises:
        UserError: two classes share an identity.
    """
    by_identity: dict[str, type] = {}
    for cls in classes:
        identity = declared_identity(cls) or ""
        other = by_identity.setdefault(identity, cls)
        if other is not cls:
            raise UserError(f"{cls.__qualname__} and {other.__qualname__} are both {identity}: rename one")
    return {name: described_defaults(cls) if is_dataclass(cls) else {} for name, cls in sorted(by_identity.items())}


def unversioned(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a line for each default that changed without a new version; added and removed fields are allowed.

    Args:
        old: `classes` of the file.
        new: `classes` of the package.
    """
    lines = []
    for identity in old.keys() & new.keys():
        shared = old[identity].keys() & new[identity].keys()
        before = {name: old[identity][name] for name in shared}
        after = {name: new[identity][name] for name in shared}
        name, _, version = identity.rpartition("/")
        lines += [
            f"{identity}: default of {line}: bump the version of {identity} to {name}/{int(version) + 1}, then run"
            f" python -m scripts.pin_identities"
            for line in differences(before, after)
        ]
    return sorted(lines)


def _configs() -> Iterator[tuple[str, Any]]:
    """Yield the description of every option, by `group/option`; for a suite, of each of its attacks."""
    options: list[Path] = []
    for group in _GROUPS:
        options += [file.relative_to(CONF).with_suffix("") for file in (CONF / group).rglob("*.yaml")]
    options = [option for option in sorted(options) if str(option) not in LEFT_OUT]
    nodes: dict[str, Any] = {}
    for start in range(0, len(options), 8):  # in batches, because Hydra's time grows with the square
        nodes |= _composed(options[start : start + 8])
    with tempfile.TemporaryDirectory() as scratch:
        for option, node in nodes.items():
            with torch.device("meta"):  # an identity does not depend on weights
                built = instantiate(_without_files(node, Path(scratch)), option)
            parts = built.attacks if isinstance(built, AttackSuite) else built
            if not isinstance(parts, Mapping) or not parts:
                yield option, describe(built)
                continue
            for name, part in parts.items():
                yield f"{option}/{name}", describe(part)


def _composed(options: Sequence[Path]) -> dict[str, Any]:
    """Return the resolved node of every option on CIFAR-10, from one config."""
    register_resolvers()
    words = ["defense=normal", "dataset=cifar10", "distance=lpips_self", "distance@dataset.reference=lpips_self"]
    words += ["attack_suite=corruptions"]  # all corruptions refer to its folder of frost photographs
    keys = {str(option): str(option).replace("/", "__") for option in options}
    for option in options:
        words.append(f"+{option.parent}@pinned.{keys[str(option)]}={option.name}")
        if option.parts[0] == "attack" and option.name != "clean":
            threat_model = _SEARCHED.get(option.name, "linf")
            words.append(f"+threat_model@pinned.{keys[str(option)]}.threat_model={threat_model}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", words, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        nodes = plain(config)["pinned"]
    return {option: without_weights(nodes[key]) for option, key in keys.items()}


def _without_files(node: Any, folder: Path) -> Any:
    """Return the node with zeros for ImageNet weights and no frost photographs; neither is described."""
    if isinstance(node, list):
        return [_without_files(value, folder) for value in node]
    if not isinstance(node, dict):
        return node
    changed = {key: _without_files(value, folder) for key, value in node.items()}
    changed |= {key: str(folder) for key in ("frost", "folder") if isinstance(node.get(key), str)}
    if node.get("_target_") == "gauntlet.models.imagenet_features":
        changed["weights"] = str(_zeros(node["name"], folder))
    return changed


def _zeros(name: str, folder: Path) -> Path:
    file = folder / f"{name}.safetensors"
    if not file.exists():
        with torch.device("meta"):
            shapes = {key: value.shape for key, value in get_model(name, weights=None).features.state_dict().items()}
        safetensors.torch.save_file(
            {f"features.{key}": torch.zeros(shape, device="cpu") for key, shape in shapes.items()}, file
        )
    return file


def written(pins: Mapping[str, Any]) -> str:
    """Return the text of the file: a line for each class and each option."""
    parts = []
    for part, values in pins.items():
        lines = [f"{json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in values.items()]
        parts.append(f"{json.dumps(part)}: {{\n" + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write the file, or refuse."""
    pins = pinned()
    if GOLDEN.exists() and (refused := unversioned(json.loads(GOLDEN.read_text())["classes"], pins["classes"])):
        sys.exit("\n".join(refused))
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(written(pins))


if __name__ == "__main__":
    main()

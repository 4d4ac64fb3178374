"""Conversion of other projects' checkpoints to safetensors with a card that describes them.

    python -m gauntlet.models.convert resnet20.th --model resnet20 --classes 10 --out resnet20.safetensors
    python -m gauntlet.models.convert nat.pt --model wide_resnet --classes 10 --trained-on linf --out trades.safetensors
    python evaluate.py checkpoint=resnet20.safetensors dataset=cifar10

Tensors are matched by name (`gauntlet.models.renaming`). Every tensor of the file and of the network must have a match.
Classes that a file mentions are neither imported nor run (`gauntlet.models.foreign`).
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor, nn

import gauntlet.models
from gauntlet import __version__
from gauntlet.errors import UserError
from gauntlet.files import write_atomically
from gauntlet.models.foreign import read_foreign
from gauntlet.models.renaming import follows_unsaved_layers, our_name_of, renamed
from gauntlet.models.weights import digest_of, load_weights, save_weights
from gauntlet.threat_names import check_names

_INSTEAD = (
    "choose the --model and its arguments that it was trained with, or a part of the file with --weights <what the"
    " names of its tensors begin with>"
)

_OPTIONS = ("classes", "mean", "std")
"""Arguments of the model that are options of the command."""


def convert(
    file: Path,
    model: str,
    arguments: Mapping[str, Any],
    source: str | None,
    trained_on: Sequence[str] | None,
    out: Path,
    weights: str | None = None,
) -> dict[str, Any]:
    """Write the weights of a foreign checkpoint under our names, and their card.

    Args:
        file: the checkpoint.
        model: a constructor of `gauntlet.models`.
        arguments: of the constructor. Normalisation that is left out is the file's own if it has one, else the
            constructor's.
        source: where the file comes from, for the card.
        trained_on: names of the threat models it was trained on; none of them is clean images, None is unknown.
        out: a `.safetensors` file; the card is written beside it as `.json`.
        weights: which of several networks in the file; see `read_foreign`.

    Returns:
        The card.

    Raises:
        UserError: the file is damaged, belongs to another architecture, or has another normalisation than given.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: expected a name that ends with .safetensors")
    if arguments.get("classes", 2) < 2:
        raise UserError(f"--classes {arguments['classes']}: expected at least 2")
    tensors = read_foreign(file, weights)
    if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise UserError(f"{file} holds NaN or infinity in {broken[0]}: the network is unusable; save it again")
    complete = _with_normalisation(dict(arguments), tensors, file)
    network = _build(model, complete)
    matched = renamed(tensors, network, file)
    _check_channels(matched, network, file)
    load_weights(network, matched, file, _INSTEAD)
    save_weights(network, out)
    card = {
        "sha256": digest_of(out),
        "model": model,
        "node": {"_target_": f"gauntlet.models.{model}", **_with_defaults(model, complete)},
        "source": {
            "file": file.name,
            "sha256": digest_of(file),
            "from": source,
            **({"weights": weights} if weights else {}),
        },
        "trained_on": None if trained_on is None else list(trained_on),
        "gauntlet": __version__,
    }
    write_atomically(card_of(out), json.dumps(card, indent=1) + "\n")
    return card


def card_of(weights: Path) -> Path:
    """The path of the card of a weights file."""
    return weights.with_suffix(".json")


def _check_channels(tensors: Mapping[str, Tensor], network: nn.Module, file: Path) -> None:
    """Raise UserError unless the normalisation has as many channels as the file's first convolution."""
    first = next((name for name, tensor in network.state_dict().items() if tensor.ndim == 4), None)
    if first is None or first not in tensors or tensors[first].ndim != 4:
        return
    theirs, ours = tensors[first].shape[1], network.state_dict()[first].shape[1]
    if theirs != ours:
        raise UserError(
            f"--mean and --std are of {ours} channels, and {file} is of images of {theirs} ({first} is"
            f" {list(tensors[first].shape)}): give {theirs} numbers each"
        )


def _with_normalisation(arguments: dict[str, Any], tensors: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """The constructor's arguments with the normalisation stored in the file, if there is one."""
    for part in ("mean", "std"):
        own = {f"normalise.{part}": None}
        matching = [tensor for name, tensor in tensors.items() if our_name_of(name, own)]
        if not matching:
            continue
        stored = matching[0].flatten().tolist()
        given = arguments.get(part, stored)
        if len(given) != len(stored) or any(abs(a - b) > 1e-6 for a, b in zip(given, stored, strict=True)):
            raise UserError(f"--{part} {list(given)}, but {file} was trained with {stored}: leave --{part} out")
        arguments[part] = [float(f"{value:.7g}") for value in stored]
    if follows_unsaved_layers(tensors) and not {"mean", "std"} <= arguments.keys():
        raise UserError(
            f"the network in {file} follows a layer of which nothing was saved, such as a normalisation: give"
            f" --mean and --std (0 and 1 for every channel without one)"
        )
    return arguments


def _constructors() -> dict[str, Callable[..., nn.Module]]:
    """The functions that build a classifier from plain values, by name."""
    functions = {name: getattr(gauntlet.models, name) for name in gauntlet.models.__all__}
    return {name: make for name, make in functions.items() if "classes" in inspect.signature(make).parameters}


def _with_defaults(model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a constructor, including defaults."""
    call = inspect.signature(_constructors()[model]).bind(**arguments)
    call.apply_defaults()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in call.arguments.items()}


def _build(model: str, arguments: Mapping[str, Any]) -> nn.Module:
    known = _constructors()
    if model not in known:
        raise UserError(f"--model {model}: expected one of {', '.join(sorted(known))}")
    expected = inspect.signature(known[model]).parameters
    if unknown := sorted(arguments.keys() - expected.keys()):
        raise UserError(f"--model {model} has no argument {unknown[0]}: expected {_as_options(expected)}")
    required = [name for name, parameter in expected.items() if parameter.default is parameter.empty]
    if missing := [name for name in required if name not in arguments]:
        raise UserError(f"--model {model} has no default {' and '.join(missing)}: add {_as_options(missing)}")
    try:
        return known[model](**arguments)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"--model {model}: {' '.join(str(error).split())}") from None


def _as_options(arguments: Iterable[str]) -> str:
    """Arguments as written on the command line."""
    return ", ".join(f"--{name} …" if name in _OPTIONS else f"{name}=…" for name in arguments)


def _arguments(words: Sequence[str]) -> dict[str, Any]:
    """Parse `key=value` arguments of the model; those with an option of their own are refused."""
    pairs = [word.partition("=") for word in words]
    for name, equals, value in pairs:
        if not equals or not name:
            raise UserError(f"{name}: expected arguments of the model as key=value")
        if name in _OPTIONS:
            raise UserError(f"{name}={value}: use the option --{name}")
    return {name: yaml.safe_load(value) for name, _, value in pairs}


def main(words: Sequence[str] | None = None) -> None:
    """`python -m gauntlet.models.convert FILE --model resnet32 --classes 10 --out weights.safetensors`."""
    parser = argparse.ArgumentParser("python -m gauntlet.models.convert", description="Convert foreign checkpoints.")
    parser.add_argument("file", type=Path, help="a checkpoint: .pt, .pth, .th, .ckpt, .safetensors or .npz")
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="of the model: depth=28 width=10")
    parser.add_argument("--model", required=True, help="the architecture by our name: resnet32, torchvision, …")
    parser.add_argument("--classes", type=int, required=True, help="number of classes")
    parser.add_argument("--mean", type=float, nargs="+", default=argparse.SUPPRESS, help="of its normalisation")
    parser.add_argument("--std", type=float, nargs="+", default=argparse.SUPPRESS, help="of its normalisation")
    parser.add_argument("--trained-on", nargs="*", help="threat models: linf l2 …; none for clean images")
    parser.add_argument("--weights", help="which, of several networks in the file: state_dict_ema, ema.module, …")
    parser.add_argument("--source", help="where the file comes from, for the card")
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file; the card goes beside it")
    options = vars(parser.parse_intermixed_args(words))
    named = {name: options[name] for name in _OPTIONS if name in options}
    try:
        check_names(options["trained_on"] or (), "--trained-on")
        arguments = named | _arguments(options["arguments"])
        card = convert(
            options["file"],
            options["model"],
            arguments,
            options["source"],
            options["trained_on"],
            options["out"],
            options["weights"],
        )
    except (UserError, OSError, yaml.YAMLError) as error:
        print(f"gauntlet: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    out = options["out"]
    normalisation = f"mean {card['node'].get('mean')}, std {card['node'].get('std')}"
    print(f"{out}: {card['model']}, {normalisation}, SHA-256 {card['sha256']}; its card is {card_of(out)}")


if __name__ == "__main__":
    main()

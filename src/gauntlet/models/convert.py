"""Checkpoints of other projects as ours: safetensors, and a card beside them that says what they are.

    python -m gauntlet.models.convert resnet20.th --model resnet20 --classes 10 --out resnet20.safetensors
    python -m gauntlet.models.convert nat.pt --model wide_resnet --classes 10 --trained-on linf --out trades.safetensors
    python evaluate.py checkpoint=resnet20.safetensors dataset=cifar10

Tensors are found by their names (`gauntlet.models.renaming`). Every tensor of the file and of the network has to find
its place. Classes that a file mentions are neither imported nor run (`gauntlet.models.foreign`).
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
from gauntlet.models.renaming import place_of, stands_behind, translated
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
        out: a `.safetensors` file; the card goes beside it as `.json`.
        weights: which, where the file holds several, as in `read_foreign`.

    Returns:
        The card.

    Raises:
        UserError: the file is damaged, belongs to another architecture, or normalises in another way than was asked.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: expected a name that ends with .safetensors")
    if arguments.get("classes", 2) < 2:
        raise UserError(f"--classes {arguments['classes']}: expected at least 2")
    tensors = read_foreign(file, weights)
    if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise UserError(f"{file} holds NaN or infinity in {broken[0]}: such a network answers nothing; save it anew")
    complete = _with_normalisation(dict(arguments), tensors, file)
    network = _built(model, complete)
    found = translated(tensors, network, file)
    _check_channels(found, network, file)
    load_weights(network, found, file, _INSTEAD)
    save_weights(network, out)
    card = {
        "sha256": digest_of(out),
        "model": model,
        "node": {"_target_": f"gauntlet.models.{model}", **_whole_call(model, complete)},
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
    """Where the card of a weights file is."""
    return weights.with_suffix(".json")


def _check_channels(tensors: Mapping[str, Tensor], network: nn.Module, file: Path) -> None:
    """Refuse a normalisation for images of more or fewer channels than the file's first convolution takes."""
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
    """The constructor's arguments with the normalisation that the file brings, if it brings any."""
    for part in ("mean", "std"):
        own = {f"normalise.{part}": None}
        stored = next((tensor.flatten().tolist() for name, tensor in tensors.items() if place_of(name, own)), None)
        if stored is None:
            continue
        given = arguments.get(part, stored)
        if len(given) != len(stored) or any(abs(a - b) > 1e-6 for a, b in zip(given, stored, strict=True)):
            raise UserError(f"--{part} {list(given)}, but {file} was trained with {stored}: leave --{part} out")
        arguments[part] = [float(f"{value:.7g}") for value in stored]
    if stands_behind(tensors) and not {"mean", "std"} <= arguments.keys():
        raise UserError(
            f"the network in {file} stands behind a layer of which nothing was saved, such as a normalisation: say"
            f" --mean and --std (0 and 1 for every channel where it does nothing)"
        )
    return arguments


def _constructors() -> dict[str, Callable[..., nn.Module]]:
    """What builds a classifier from plain values."""
    functions = {name: getattr(gauntlet.models, name) for name in gauntlet.models.__all__}
    return {name: make for name, make in functions.items() if "classes" in inspect.signature(make).parameters}


def _whole_call(model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a constructor, defaults written out."""
    call = inspect.signature(_constructors()[model]).bind(**arguments)
    call.apply_defaults()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in call.arguments.items()}


def _built(model: str, arguments: Mapping[str, Any]) -> nn.Module:
    if model not in (known := _constructors()):
        raise UserError(f"--model {model}: expected one of {', '.join(sorted(known))}")
    expected = inspect.signature(known[model]).parameters
    if strange := sorted(arguments.keys() - expected.keys()):
        raise UserError(f"--model {model} takes no {strange[0]}: expected {_spelled(expected)}")
    if missing := [name for name, one in expected.items() if one.default is one.empty and name not in arguments]:
        raise UserError(f"--model {model} has no {' and no '.join(missing)} of its own: add {_spelled(missing)}")
    try:
        return known[model](**arguments)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"--model {model}: {' '.join(str(error).split())}") from None


def _spelled(arguments: Iterable[str]) -> str:
    """As on the command line."""
    return ", ".join(f"--{name} …" if name in _OPTIONS else f"{name}=…" for name in arguments)


def _arguments(words: Sequence[str]) -> dict[str, Any]:
    """Of the model, from `key=value`; what has an option of its own is said once, there."""
    pairs = [word.partition("=") for word in words]
    for name, equals, value in pairs:
        if not equals or not name:
            raise UserError(f"{name}: expected arguments of the model as key=value")
        if name in _OPTIONS:
            raise UserError(f"{name}={value}: that is the option --{name}; say it there")
    return {name: yaml.safe_load(value) for name, _, value in pairs}


def main(words: Sequence[str] | None = None) -> None:
    """`python -m gauntlet.models.convert FILE --model resnet32 --classes 10 --out weights.safetensors`."""
    parser = argparse.ArgumentParser("python -m gauntlet.models.convert", description="Foreign checkpoints as ours.")
    parser.add_argument("file", type=Path, help="a checkpoint: .pt, .pth, .th, .ckpt, .safetensors or .npz")
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="of the model: depth=28 width=10")
    parser.add_argument("--model", required=True, help="the architecture by our name: resnet32, torchvision, …")
    parser.add_argument("--classes", type=int, required=True, help="how many it tells apart")
    parser.add_argument("--mean", type=float, nargs="+", default=argparse.SUPPRESS, help="of its normalisation")
    parser.add_argument("--std", type=float, nargs="+", default=argparse.SUPPRESS, help="of its normalisation")
    parser.add_argument("--trained-on", nargs="*", help="threat models: linf l2 …; none for clean images")
    parser.add_argument("--weights", help="which, of several networks in the file: state_dict_ema, ema.module, …")
    parser.add_argument("--source", help="where the file comes from, for the card")
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file; the card goes beside it")
    given = vars(parser.parse_intermixed_args(words))
    named = {name: given[name] for name in _OPTIONS if name in given}
    try:
        check_names(given["trained_on"] or (), "--trained-on")
        arguments = named | _arguments(given["arguments"])
        places = given["trained_on"], given["out"], given["weights"]
        card = convert(given["file"], given["model"], arguments, given["source"], *places)
    except (UserError, OSError, yaml.YAMLError) as error:
        print(f"gauntlet: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    normalised = f"mean {card['node'].get('mean')}, std {card['node'].get('std')}"
    print(
        f"{given['out']}: {card['model']}, {normalised}, SHA-256 {card['sha256']}; its card is {card_of(given['out'])}"
    )


if __name__ == "__main__":
    main()

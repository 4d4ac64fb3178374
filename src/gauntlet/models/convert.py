"""Checkpoints of other projects as ours: safetensors, and a card beside them that says what they are.

    python -m gauntlet.models.convert resnet20.th --model resnet20 --classes 10 --out resnet20.safetensors
    python -m gauntlet.models.convert nat.pt --model wide_resnet --classes 10 --trained-on linf --out trades.safetensors
    python evaluate.py checkpoint=resnet20.safetensors dataset=cifar10

Tensors are found by their names: with the wrappers of perceptual-advex, MadryLab/robustness and DataParallel taken off,
and with the names of other definitions of the same network put right (`_RENAMED`). Every tensor of the file and of the
network has to find its place. Classes that a file mentions are neither imported nor run.
"""

from __future__ import annotations

import argparse
import inspect
import json
import pickletools
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
import yaml
from torch import Tensor, nn

import gauntlet.models
from gauntlet import __version__
from gauntlet.errors import UserError
from gauntlet.files import write_atomically
from gauntlet.models.weights import checked, digest_of, load_weights, read_weights, reason_of, save_weights

_HOLDERS = ("state_dict", "model", "net", "network")
"""Where training scripts put the state dict beside their optimizer and epoch."""

_WRAPPERS = ("module", "model", "attacker", "net", "network")
"""Submodules that hold the whole network: DataParallel; perceptual-advex and robustness; robustness' copy; others."""

_RENAMED = (
    (r"^(normalizer|normalize)\.(new_)?(mean|std)$", r"normalise.\3"),  # robustness, and perceptual-advex with it
    (r"^linear\.", r"fc."),  # CIFAR ResNets of robustness, ReColorAdv and akamaster
    (r"\.shortcut\.", r".downsample."),  # CIFAR ResNets of robustness
    (r"^(block\d)\.layer\.(\d+\.\w+\.)", r"\1.\2"),  # TRADES
    (r"\.convShortcut\.", r".shortcut."),  # TRADES
)
_UNUSED = (r"^sub_block1\.",)
"""TRADES' WRN-34-10 has a second first group that its forward never runs."""


_OPTIONS = ("classes", "mean", "std")
"""Arguments of the model that are options of the command."""


def convert(
    file: Path,
    model: str,
    arguments: Mapping[str, Any],
    source: str | None,
    trained_on: Sequence[str] | None,
    out: Path,
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

    Returns:
        The card.

    Raises:
        UserError: the file is damaged, belongs to another architecture, or normalises in another way than was asked.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: expected a name that ends with .safetensors")
    if arguments.get("classes", 2) < 2:
        raise UserError(f"--classes {arguments['classes']}: expected at least 2")
    tensors = _foreign_tensors(file)
    if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise UserError(f"{file} holds NaN or infinity in {broken[0]}: such a network answers nothing; save it anew")
    complete = _with_normalisation(dict(arguments), tensors, file)
    network = _built(model, complete)
    translated = _translated(tensors, network, file)
    _check_channels(translated, network, file)
    load_weights(network, translated, file)
    save_weights(network, out)
    card = {
        "sha256": digest_of(out),
        "model": model,
        "node": {"_target_": f"gauntlet.models.{model}", **_whole_call(model, complete)},
        "source": {"file": file.name, "sha256": digest_of(file), "from": source},
        "trained_on": None if trained_on is None else list(trained_on),
        "gauntlet": __version__,
    }
    write_atomically(card_of(out), json.dumps(card, indent=1) + "\n")
    return card


def card_of(weights: Path) -> Path:
    """Where the card of a weights file is."""
    return weights.with_suffix(".json")


def _foreign_tensors(file: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint, whatever lies beside it."""
    if file.suffix in (".safetensors", ".npz"):
        return read_weights(file)
    if not file.is_file():
        what = f"{file} is a folder" if file.is_dir() else f"no checkpoint at {file}"
        raise UserError(f"{what}: give a .pt, .pth, .th, .ckpt, .safetensors or .npz file")
    try:
        strangers: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
            (_Skipped, name) for name in _foreign_classes(file)
        ]
        with torch.serialization.safe_globals(strangers), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickles; a refusal is one line
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(
            f"{file} is damaged or holds more than tensors ({reason_of(error, file)}): nothing of it was run"
        ) from None
    while inner := [name for name in _HOLDERS if isinstance(content, dict) and isinstance(content.get(name), dict)]:
        if len(inner) > 1:
            raise UserError(f"{file} holds both {' and '.join(inner)}: save the one you mean alone")
        content = content[inner[0]]
    named = content.items() if isinstance(content, dict) else ()
    tensors = {name: value for name, value in named if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{file} holds no state dict: expected tensors by name, alone or under {', '.join(_HOLDERS)}")
    return checked(tensors, file)


class _Skipped:
    """What stands for an object of a class that is not ours: robustness keeps its settings beside the weights."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _foreign_classes(file: Path) -> set[str]:
    """The names of all classes and functions a checkpoint mentions, read without running anything."""
    with file.open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            stream.seek(0)
            return _globals(stream, pickles=5)  # magic, protocol, system, the object, the names of its storages
    with zipfile.ZipFile(file) as archive:
        inside = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if not inside:
            raise ValueError("it is a zip archive without tensors")
        return _globals(archive.open(inside[0]), pickles=1)


def _globals(stream: IO[bytes], pickles: int) -> set[str]:
    named = (arg for _ in range(pickles) for op, arg, _ in pickletools.genops(stream) if op.name == "GLOBAL")
    return {str(arg).replace(" ", ".") for arg in named}


def _translated(tensors: Mapping[str, Tensor], network: nn.Module, file: Path) -> dict[str, Tensor]:
    """The tensors under the network's names; those without a place there keep their own."""
    own = {_bare(name): name for name in network.state_dict()}
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in tensors.items():
        if place := _place(name, own):
            if place in found and not found[place].equal(tensor):
                raise UserError(f"{file} has two tensors for {place} that differ: {origin[place]} and {name}")
            found[place], origin[place] = tensor, name
    for name, tensor in tensors.items():
        unused = any(re.match(pattern, bare) for pattern in _UNUSED for bare in _unwrapped(name))
        copied = any(_tail(place) == _tail(name) and tensor.equal(other) for place, other in found.items())
        if not (_place(name, own) or unused or copied):  # perceptual-advex' AlexNet holds its features twice
            found[name] = tensor
    translated = {own.get(place, place): tensor for place, tensor in found.items()}
    implied = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name.startswith("normalise.") or name.endswith(".num_batches_tracked")  # older PyTorch did not count them
    }
    shaped = {name: translated[name].reshape(implied[name].shape) for name in implied.keys() & translated.keys()}
    return implied | translated | shaped


def _check_channels(translated: Mapping[str, Tensor], network: nn.Module, file: Path) -> None:
    """Refuse a normalisation for images of more or fewer channels than the file's first convolution takes."""
    first = next((name for name, tensor in network.state_dict().items() if tensor.ndim == 4), None)
    if first is None or first not in translated or translated[first].ndim != 4:
        return
    theirs, ours = translated[first].shape[1], network.state_dict()[first].shape[1]
    if theirs != ours:
        raise UserError(
            f"--mean and --std are of {ours} channels, and {file} is of images of {theirs} ({first} is"
            f" {list(translated[first].shape)}): give {theirs} numbers each"
        )


def _place(name: str, own: Mapping[str, Any]) -> str | None:
    """Our name for a foreign one."""
    for bare in _unwrapped(name):
        renamed = bare
        for pattern, replacement in _RENAMED:
            renamed = re.sub(pattern, replacement, renamed)
        for spelled in (bare, renamed):
            if spelled in own:
                return spelled
    return None


def _unwrapped(name: str) -> Iterator[str]:
    """The name, and what is left of it without one wrapper, without two, and so on."""
    yield name
    while name.split(".")[0] in _WRAPPERS:
        name = name.partition(".")[2]
        yield name


def _bare(name: str) -> str:
    return name.removeprefix("network.")


def _tail(name: str) -> list[str]:
    return name.split(".")[-2:]


def _with_normalisation(arguments: dict[str, Any], tensors: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """The constructor's arguments with the normalisation that the file brings, if it brings any."""
    for part in ("mean", "std"):
        own = {f"normalise.{part}": None}
        stored = next((tensor.flatten().tolist() for name, tensor in tensors.items() if _place(name, own)), None)
        if stored is None:
            continue
        given = arguments.get(part, stored)
        if len(given) != len(stored) or any(abs(a - b) > 1e-6 for a, b in zip(given, stored, strict=True)):
            raise UserError(f"--{part} {list(given)}, but {file} was trained with {stored}: leave --{part} out")
        arguments[part] = [float(f"{value:.7g}") for value in stored]
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
    from gauntlet.threats.names import check_names  # the command knows them; nothing else here looks at threats

    parser = argparse.ArgumentParser("python -m gauntlet.models.convert", description="Foreign checkpoints as ours.")
    parser.add_argument("file", type=Path, help="a checkpoint: .pt, .pth, .th, .ckpt, .safetensors or .npz")
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="of the model: depth=28 width=10")
    parser.add_argument("--model", required=True, help="the architecture by our name: resnet32, torchvision, …")
    parser.add_argument("--classes", type=int, required=True, help="how many it tells apart")
    parser.add_argument("--mean", type=float, nargs="+", default=argparse.SUPPRESS, help="of its normalisation")
    parser.add_argument("--std", type=float, nargs="+", default=argparse.SUPPRESS, help="of its normalisation")
    parser.add_argument("--trained-on", nargs="*", help="threat models: linf l2 …; none for clean images")
    parser.add_argument("--source", help="where the file comes from, for the card")
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file; the card goes beside it")
    given = vars(parser.parse_intermixed_args(words))
    named = {name: given[name] for name in _OPTIONS if name in given}
    try:
        check_names(given["trained_on"] or (), "--trained-on")
        arguments = named | _arguments(given["arguments"])
        card = convert(given["file"], given["model"], arguments, given["source"], given["trained_on"], given["out"])
    except (UserError, OSError, yaml.YAMLError) as error:
        print(f"gauntlet: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    normalised = f"mean {card['node'].get('mean')}, std {card['node'].get('std')}"
    print(
        f"{given['out']}: {card['model']}, {normalised}, SHA-256 {card['sha256']}; its card is {card_of(given['out'])}"
    )


if __name__ == "__main__":
    main()

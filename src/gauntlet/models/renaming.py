"""What other projects call the tensors of a network, and what we call them.

With the wrappers of perceptual-advex, MadryLab/robustness and DataParallel taken off, and with the names of other
definitions of the same network put right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gauntlet.errors import UserError

_WRAPPERS = ("module", "model", "attacker", "net", "network")
"""Submodules that hold the whole network: DataParallel; perceptual-advex and robustness; robustness' copy; others.

So does a place in `Sequential(Normalize, net)`, a number."""

_TRANSPARENT = ("_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch.compile, Fabric, FSDP and checkpointing put around a network or any part of it."""

_RENAMED = (
    (r"^(normalizer|normalize|normalizing|normalization|norm)\.(new_)?(mean|std)$", r"normalise.\3"),  # robustness, …
    (r"^(mean|std)$", r"normalise.\1"),  # of a network that normalises itself, or at the head of a Sequential
    (r"^mu$", r"normalise.mean"),
    (r"^sigma$", r"normalise.std"),
    (r"^linear\.", r"fc."),  # CIFAR ResNets of robustness, ReColorAdv and akamaster
    (r"\.shortcut\.", r".downsample."),  # CIFAR ResNets of robustness
    (r"^(block\d)\.layer\.(\d+\.\w+\.)", r"\1.\2"),  # TRADES
    (r"\.convShortcut\.", r".shortcut."),  # TRADES
)
_UNUSED = (r"^sub_block1\.", r"^n_averaged$")
"""TRADES' WRN-34-10 has a second first group that its forward never runs; AveragedModel counts what it averaged."""


def translated(tensors: Mapping[str, Tensor], network: nn.Module, file: Path) -> dict[str, Tensor]:
    """The tensors under the network's names; those without a place there keep their own.

    Raises:
        UserError: two of them that differ have one place.
    """
    own = {_bare(name): name for name in network.state_dict()}
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in tensors.items():
        if place := place_of(name, own):
            if place in found and not found[place].equal(tensor):
                raise UserError(
                    f"{file} has two tensors for {place} that differ: {origin[place]} and {name}; say which network is"
                    f" meant with --weights <what the names of its tensors begin with>"
                )
            found[place], origin[place] = tensor, name
    for name, tensor in tensors.items():
        unused = any(map(_is_unused, _unwrapped(name)))
        copied = any(_tail(place) == _tail(name) and tensor.equal(other) for place, other in found.items())
        if not (place_of(name, own) or unused or copied):  # perceptual-advex' AlexNet holds its features twice
            found[name] = tensor
    named = {own.get(place, place): tensor for place, tensor in found.items()}
    implied = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name.startswith("normalise.") or name.endswith(".num_batches_tracked")  # older PyTorch did not count them
    }
    shaped = {name: named[name].reshape(implied[name].shape) for name in implied.keys() & named.keys()}
    return implied | named | shaped


def stands_behind(tensors: Iterable[str]) -> bool:
    """Whether all names are of a later place in a Sequential: what stands before it has no tensors."""
    bare = [list(_unwrapped(name)) for name in tensors]
    layers = [names for names in bare if not any(_is_unused(name) for name in names)]
    return all(any(re.match(r"[1-9]\d*\.", name) for name in names) for names in layers)


def _is_unused(name: str) -> bool:
    return any(re.match(pattern, name) for pattern in _UNUSED)


def place_of(name: str, own: Mapping[str, Any]) -> str | None:
    """Our name for a foreign one, among those that there are; None where it has none."""
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
    name = ".".join(part for part in name.split(".") if part not in _TRANSPARENT)
    yield name
    while "." in name and ((first := name.split(".")[0]) in _WRAPPERS or first.isdecimal()):
        name = name.partition(".")[2]
        yield name


def _bare(name: str) -> str:
    return name.removeprefix("network.")


def _tail(name: str) -> list[str]:
    return name.split(".")[-2:]

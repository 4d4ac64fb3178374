"""Our names for the tensors of other projects' networks.

Removes the wrappers of perceptual-advex, MadryLab/robustness and DataParallel, and translates the names of other
definitions of the same network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gauntlet.errors import UserError

_WRAPPERS = ("module", "model", "attacker", "net", "network")
"""Submodules that hold the whole network: of DataParallel; perceptual-advex and robustness; robustness' copy; others.

An index in `Sequential(Normalize, net)` is one, too."""

_TRANSPARENT = ("_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Wrappers of torch.compile, Fabric, FSDP and checkpointing around a network or any part of it."""

_RENAMED = (
    (r"^(normalizer|normalize|normalizing|normalization|norm)\.(new_)?(mean|std)$", r"normalise.\3"),  # robustness, …
    (r"^(mean|std)$", r"normalise.\1"),  # of a network that normalises itself, or the first layer of a Sequential
    (r"^mu$", r"normalise.mean"),
    (r"^sigma$", r"normalise.std"),
    (r"^linear\.", r"fc."),  # CIFAR ResNets of robustness, ReColorAdv and akamaster
    (r"\.shortcut\.", r".downsample."),  # CIFAR ResNets of robustness
    (r"^(block\d)\.layer\.(\d+\.\w+\.)", r"\1.\2"),  # TRADES
    (r"\.convShortcut\.", r".shortcut."),  # TRADES
)
_UNUSED = (r"^sub_block1\.", r"^n_averaged$")
"""TRADES' WRN-34-10 has a copy of its first group that its forward never uses; AveragedModel has a counter."""


def renamed(tensors: Mapping[str, Tensor], network: nn.Module, file: Path) -> dict[str, Tensor]:
    """The tensors under the network's names; those without a match keep their own.

    Raises:
        UserError: two different tensors match the same name.
    """
    own = {_bare(name): name for name in network.state_dict()}
    matched: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in tensors.items():
        if ours := our_name_of(name, own):
            if ours in matched and not matched[ours].equal(tensor):
                raise UserError(
                    f"{file} has two tensors for {ours} that differ: {origin[ours]} and {name}; choose the network"
                    f" with --weights <what the names of its tensors begin with>"
                )
            matched[ours] = tensor
            origin[ours] = name
    for name, tensor in tensors.items():
        unused = any(map(_is_unused, _unwrapped(name)))
        copied = any(_tail(ours) == _tail(name) and tensor.equal(other) for ours, other in matched.items())
        # perceptual-advex' AlexNet holds its features twice.
        if not (our_name_of(name, own) or unused or copied):
            matched[name] = tensor
    named = {own.get(ours, ours): tensor for ours, tensor in matched.items()}
    implied = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name.startswith("normalise.") or name.endswith(".num_batches_tracked")  # older PyTorch did not count them
    }
    shaped = {name: named[name].reshape(implied[name].shape) for name in implied.keys() & named.keys()}
    return implied | named | shaped


def follows_unsaved_layers(tensors: Iterable[str]) -> bool:
    """Whether all names belong to a later index of a Sequential, so that the layers before it saved no tensors."""
    bare = [list(_unwrapped(name)) for name in tensors]
    layers = [names for names in bare if not any(_is_unused(name) for name in names)]
    return all(any(re.match(r"[1-9]\d*\.", name) for name in names) for names in layers)


def _is_unused(name: str) -> bool:
    return any(re.match(pattern, name) for pattern in _UNUSED)


def our_name_of(name: str, own: Mapping[str, Any]) -> str | None:
    """Our name for a foreign one among `own`, or None."""
    for bare in _unwrapped(name):
        substituted = bare
        for pattern, replacement in _RENAMED:
            substituted = re.sub(pattern, replacement, substituted)
        for candidate in (bare, substituted):
            if candidate in own:
                return candidate
    return None


def _unwrapped(name: str) -> Iterator[str]:
    """The name, then the name without its first wrapper, without two, and so on."""
    name = ".".join(part for part in name.split(".") if part not in _TRANSPARENT)
    yield name
    while "." in name and ((first := name.split(".")[0]) in _WRAPPERS or first.isdecimal()):
        name = name.partition(".")[2]
        yield name


def _bare(name: str) -> str:
    return name.removeprefix("network.")


def _tail(name: str) -> list[str]:
    return name.split(".")[-2:]

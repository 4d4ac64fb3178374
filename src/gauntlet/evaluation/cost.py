"""Estimate the cost of an attack in passes, time and disk space by running it on a few examples."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.evaluation.entries import Entry
from gauntlet.evaluation.grid import Grid
from gauntlet.evaluation.store import as_parquet
from gauntlet.evaluation.verification import ModelUnderTest, device_of, measure_chunk
from gauntlet.kinds import Kind
from gauntlet.models import Tapped, features_of
from gauntlet.models.border import raw_output
from gauntlet.scopes import evaluating, exact

_EXAMPLES = 2  # examples of the first measurement
_REPEATS = 2  # the second measurement has this many times as many


@dataclass(frozen=True)
class Cost:
    """The cost of one attack, per example unless stated otherwise, measured on the first few examples."""

    forwards: float
    """Forward passes of the classifier, without those for the clean image and for the verification."""
    backwards: float
    """Backward passes of the classifier."""
    others: float
    """Forward passes of other networks in the attack, such as that of a perceptual distance."""
    seconds_per_chunk: float
    """Time per chunk, verification included."""
    bytes_per_chunk: float
    """Size of the file of records; an upper bound."""


def cost_of(model: ModelUnderTest, entry: Entry, grid: Grid) -> Cost:
    """Run the entry twice on a few examples and extrapolate to a chunk.

    The second run repeats the same examples with the same random numbers. The difference in time is the cost of the
    added examples; what remains of the first run is the fixed cost of a call.
    """
    few = model.examples[slice(0, min(_EXAMPLES, len(model.examples)))]
    many = few.mapped(lambda part: torch.cat([part] * _REPEATS))
    count = len(few.labels)
    with _counted(model, entry, few) as counts:
        _, small = _timed(model, entry, few, grid)
    frame, large = _timed(model, entry, many, grid)
    chunk = grid.chunks(model)[0]
    size = chunk.stop - chunk.start
    seconds_per_example = max(0.0, (large - small) / (len(many.labels) - count))
    seconds_per_call = max(0.0, small - seconds_per_example * count)
    own, *others = counts
    verification = 1 if entry.kind is Kind.CERTIFICATE else 2  # of the clean image, and of the attack's image
    empty_file = len(as_parquet(frame.clear()))
    return Cost(
        forwards=own.forwards / count - verification,
        backwards=own.backwards / count,
        others=sum(other.forwards for other in others) / count,
        seconds_per_chunk=seconds_per_call + seconds_per_example * size,
        bytes_per_chunk=empty_file + frame.estimated_size() / len(frame) * size,
    )


def _timed(model: ModelUnderTest, entry: Entry, batch: Batch, grid: Grid) -> tuple[pl.DataFrame, float]:
    start = time.perf_counter()
    chunk = measure_chunk(model, entry, batch, grid.noise(entry, batch))
    return chunk.records, time.perf_counter() - start


@contextmanager
def _counted(model: ModelUnderTest, entry: Entry, batch: Batch) -> Iterator[list[Passes]]:
    """Count passes of the classifier, then of every other network in the attack."""
    classifier = model.classifier
    device = device_of(classifier)
    others = [network for network in networks_in(entry) if network is not classifier]
    with counted_passes((classifier, *others), batch.images[:1].to(device)) as counts:
        yield counts


@contextmanager
def counted_passes(networks: Sequence[nn.Module], images: Tensor) -> Iterator[list[Passes]]:
    """Count the passes of each network while the context is open.

    Args:
        networks: the networks to count passes of.
        images: `[1, C, H, W]`; one forward pass of it finds the layer that every pass goes through.
    """
    with exact():
        layers = [_first_layer(network, images) for network in networks]
    with _counting(layers) as counts:
        yield counts


@dataclass
class Passes:
    """Passes of one network. A pass of a batch counts once for each of its examples."""

    forwards: int = 0
    backwards: int = 0


@contextmanager
def _counting(layers: Sequence[nn.Module]) -> Iterator[list[Passes]]:
    """Count the examples that pass each layer forwards and, as gradients, backwards."""
    counts = [Passes() for _ in layers]

    def watch(count: Passes) -> Any:
        def hook(_layer: nn.Module, _given: Any, output: Any) -> None:
            count.forwards += len(output)
            if output.requires_grad:
                output.register_hook(lambda gradient: back(gradient))

        def back(gradient: Tensor) -> None:
            count.backwards += len(gradient)

        return hook

    handles = [layer.register_forward_hook(watch(count)) for layer, count in zip(layers, counts, strict=True)]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _first_layer(network: nn.Module, images: Tensor) -> nn.Module:
    """Return the first layer that every pass goes through, even one for features that does not call the network."""
    calls: list[nn.Module] = []
    leaves = [part for part in network.modules() if not list(part.children())]
    handles = [
        leaf.register_forward_hook(
            lambda layer, _given, output: calls.append(layer) if isinstance(output, Tensor) else None
        )
        for leaf in leaves
    ]
    try:
        with evaluating(network):
            features_of(network, images) if isinstance(network, Tapped) else raw_output(network, images)
    finally:
        for handle in handles:
            handle.remove()
    # A layer called several times in one pass would count its examples several times.
    once = [layer for layer in calls if sum(layer is other for other in calls) == 1]
    return once[0] if once else network


def networks_in(value: Any) -> list[nn.Module]:
    """Return the networks inside an attack, each once."""
    if isinstance(value, nn.Module):
        return [value]
    if is_dataclass(value) and not isinstance(value, type):
        parts: list[Any] = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        parts = list(value)
    else:
        return []
    networks: dict[int, nn.Module] = {}
    for part in parts:
        networks |= {id(network): network for network in networks_in(part)}
    return list(networks.values())

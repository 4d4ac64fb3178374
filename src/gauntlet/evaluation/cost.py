"""What an attack would cost: passes, time and disk, measured on a few examples before anybody pays."""

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
from gauntlet.models.border import answer_of
from gauntlet.scopes import evaluating, exact

_PROBE, _TIMES = 2, 2  # examples of a probe; how many times as many the second probe has


@dataclass(frozen=True)
class Cost:
    """Of one attack, per example unless said otherwise; measured on the first few examples."""

    forwards: float
    """Of the classifier, the one that looks at the clean image and the one that checks the result not counted."""
    backwards: float
    """Of the classifier."""
    others: float
    """Forwards of other networks in the attack: a perceptual distance's."""
    seconds_per_chunk: float
    """Measuring the records included."""
    bytes_per_chunk: float
    """Of the file of records; an upper bound."""


def cost_of(model: ModelUnderTest, entry: Entry, grid: Grid) -> Cost:
    """Run the entry on a few examples, twice.

    The second time on the same examples several times over, with the same random numbers: the difference is the price
    of an example, the rest the price of a call.
    """
    few = model.examples[slice(0, min(_PROBE, len(model.examples)))]
    many = few.mapped(lambda part: torch.cat([part] * _TIMES))
    with _counted(model, entry, few) as counts:
        _, small = _timed(model, entry, few, grid)
    frame, large = _timed(model, entry, many, grid)
    chunk = grid.chunks(model)[0]
    size = chunk.stop - chunk.start
    per_example = max(0.0, (large - small) / (len(many.labels) - len(few.labels)))
    seconds = max(0.0, small - per_example * len(few.labels)) + per_example * size
    empty = len(as_parquet(frame.clear()))
    own, *others = counts
    per = len(few.labels)
    foreign = sum(other.forwards for other in others) / per
    disk = empty + frame.estimated_size() / len(frame) * size
    checks = 1 if entry.kind is Kind.CERTIFICATE else 2  # the clean image, and the one that came back
    return Cost(own.forwards / per - checks, own.backwards / per, foreign, seconds, disk)


def _timed(model: ModelUnderTest, entry: Entry, batch: Batch, grid: Grid) -> tuple[pl.DataFrame, float]:
    start = time.perf_counter()
    chunk = measure_chunk(model, entry, batch, grid.noise(entry, batch))
    return chunk.records, time.perf_counter() - start


@contextmanager
def _counted(model: ModelUnderTest, entry: Entry, batch: Batch) -> Iterator[list[Passes]]:
    """Passes of the classifier, then of every other network in the attack."""
    classifier, device = model.classifier, device_of(model.classifier)
    others = [network for network in networks_in(entry) if network is not classifier]
    with counted_passes((classifier, *others), batch.images[:1].to(device)) as counts:
        yield counts


@contextmanager
def counted_passes(networks: Sequence[nn.Module], images: Tensor) -> Iterator[list[Passes]]:
    """What goes through each network while the context is open.

    Args:
        networks: whose passes.
        images: `[1, C, H, W]`, one forward of which shows what every pass goes through.
    """
    with exact():
        doors = [_first_layer(network, images) for network in networks]
    with _counting(doors) as counts:
        yield counts


@dataclass
class Passes:
    """Of one network, in examples: a pass of a batch counts for each of them."""

    forwards: int = 0
    backwards: int = 0


@contextmanager
def _counting(layers: Sequence[nn.Module]) -> Iterator[list[Passes]]:
    """Rows that pass each layer forwards and, as gradients, backwards."""
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
    """The first layer that every pass goes through, also one for feature maps that does not call the network itself."""
    seen: list[nn.Module] = []
    leaves = [part for part in network.modules() if not list(part.children())]
    handles = [
        leaf.register_forward_hook(
            lambda layer, _given, output: seen.append(layer) if isinstance(output, Tensor) else None
        )
        for leaf in leaves
    ]
    try:
        with evaluating(network):
            features_of(network, images) if isinstance(network, Tapped) else answer_of(network, images)
    finally:
        for handle in handles:
            handle.remove()
    once = [layer for layer in seen if sum(layer is other for other in seen) == 1]
    return once[0] if once else network


def networks_in(thing: Any) -> list[nn.Module]:
    """The networks inside an attack, each once."""
    if isinstance(thing, nn.Module):
        return [thing]
    if is_dataclass(thing) and not isinstance(thing, type):
        parts: list[Any] = [getattr(thing, field.name) for field in fields(thing)]
    elif isinstance(thing, Mapping):
        parts = list(thing.values())
    elif isinstance(thing, Sequence) and not isinstance(thing, str):
        parts = list(thing)
    else:
        return []
    return list({id(network): network for part in parts for network in networks_in(part)}.values())

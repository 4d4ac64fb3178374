"""Unusual networks: shared weights, state outside of the state dict, tuples in train mode."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Ten classes from 32×32 images; other networks here differ from it in one thing each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.a, self.b = nn.Linear(128, 128), nn.Linear(128, 128)
        self.head = nn.Linear(128, 10)

    def forward(self, images):
        """`[N, 10]`."""
        return self.head(self.b(self.a(self.stem(images)).relu()).relu())


class Tied(Small):
    """One weight in two layers, and one layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.b.weight = self.a.weight
        self.again = self.head
        self.view = nn.Parameter(self.a.bias.data[:64], requires_grad=False)


class TensorState(Small):
    """Extra state that is a tensor."""

    scale = 2.0

    def get_extra_state(self):
        """The scale."""
        return torch.tensor([self.scale])

    def set_extra_state(self, state):
        """From a tensor."""
        self.scale = float(state)


class ObjectState(Small):
    """Extra state that is a mapping."""

    def get_extra_state(self):
        """A value that is no tensor."""
        return {"calls": 3}

    def set_extra_state(self, state):
        """Ignore the state."""


class Forgetful(Small):
    """A random mask that no state dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.rand(128), persistent=False)

    def forward(self, images):
        """`[N, 10]`."""
        return self.head(self.a(self.stem(images)) * self.mask)


class Complex(Small):
    """A complex parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = nn.Parameter(torch.ones(10, dtype=torch.complex64))

    def forward(self, images):
        """`[N, 10]`."""
        return super().forward(images) * self.phase.real


class Answer(NamedTuple):
    """Of a network with auxiliary classifiers."""

    logits: Tensor
    aux_logits2: Tensor
    aux_logits1: Tensor | None


class Auxiliary(Small):
    """Auxiliary classifiers in train mode."""

    count = 2

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(128, 10), nn.Linear(128, 10)

    def forward(self, images):
        """`[N, 10]`, in train mode with auxiliary logits."""
        stem = self.stem(images)
        logits = self.head(self.b(self.a(stem).relu()).relu())
        if not self.training:
            return logits
        return Answer(logits, self.first(stem), self.second(stem) if self.count == 2 else None)


class OneAuxiliary(Auxiliary):
    """As Inception v3."""

    count = 1


class Pair(Small):
    """Logits and features in train mode."""

    def forward(self, images):
        """`[N, 10]`, in train mode with the features."""
        logits = super().forward(images)
        return (logits, self.stem(images)) if self.training else logits


class Nothing(Small):
    """A network that returns a loss in train mode, as detectors do."""

    def forward(self, images):
        """`[N, 10]`, in train mode a loss."""
        logits = super().forward(images)
        return {"loss": logits.sum()} if self.training else logits


class Normed(Small):
    """Batch norm of single values."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(10)

    def forward(self, images):
        """`[N, 10]`."""
        return self.norm(super().forward(images))

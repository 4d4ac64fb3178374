"""A second task, whole and small: squares and discs on a noisy ground, a class for every pixel."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import polars as pl
import torch
from torch import nn
from torch.nn import functional as F

from gauntlet.attacks import Adversarial, Attack
from gauntlet.data import Examples, ImageData, Splits
from gauntlet.data.examples import unidentified
from gauntlet.noise import Noise, fresh_seeds, mix
from gauntlet.scopes import evaluating, frozen
from gauntlet.task import Task
from gauntlet.threats import Linf
from gauntlet.varied import STEPS


@dataclass(frozen=True)
class Segmentation(Task):
    """A class per pixel: targets `[N, H, W]` int64, outputs logits `[N, K, H, W]`; the score is the share right."""

    identity: ClassVar[str] = "toy_segmentation/1"
    image_columns: ClassVar[Mapping] = {
        "intersection": pl.List(pl.Int64),  # by class, in pixels
        "union": pl.List(pl.Int64),
        "wrong": pl.List(pl.Struct({"row": pl.Int64, "column": pl.Int64})),  # as many as there are
    }

    def form(self, count, classes):
        return f"logits [{count}, {classes}, H, W]"

    def takes(self, outputs):
        return outputs.ndim == 4

    def classes(self, outputs):
        return outputs.shape[1]

    def class_range(self, targets):
        return int(targets.min()), int(targets.max())

    def loss(self, outputs, targets):
        return F.cross_entropy(outputs, targets, reduction="none").mean((1, 2))

    def score(self, outputs, targets):
        return (outputs.argmax(1) == targets).float().mean((1, 2))

    def detail(self, outputs, targets):
        found, classes = outputs.argmax(1), torch.arange(outputs.shape[1], device=targets.device)[:, None, None]
        ours, theirs = found[:, None] == classes, targets[:, None] == classes
        wrong = [
            [{"row": row, "column": column} for row, column in each.nonzero().tolist()] for each in found != targets
        ]
        return {"intersection": (ours & theirs).sum((2, 3)), "union": (ours | theirs).sum((2, 3)), "wrong": wrong}

    @property
    def metrics(self):
        return {"mIoU": mean_iou}


def mean_iou(records):
    """Intersection over union of all images together, the mean over classes that occur."""
    both, either = (torch.tensor(records[name].to_list()).sum(0) for name in ("intersection", "union"))
    return (both / either)[either > 0].mean().item()


class Shapes(ImageData):
    """Ground, square and disc: bright in red, bright in green."""

    def __init__(self, batch_size=8, seed=0, size=16, augmentation=(), counts=(32, 8, 24)):
        self.size, self.counts = size, counts
        super().__init__(batch_size, seed, augmentation)

    @property
    def task(self):
        return Segmentation()

    def load(self):
        return Splits(*self._parts(self._drawn(torch.arange(sum(self.counts)))))

    def _parts(self, drawn):
        images, masks, ids = drawn
        ends = torch.tensor(self.counts).cumsum(0).tolist()
        for start, end in zip([0, *ends], ends, strict=False):
            yield Examples(images[start:end], masks[start:end], ids[start:end])

    def _drawn(self, ids):
        noise, places = Noise(mix(7, ids)), torch.arange(self.size)
        centre = noise.stream(1).uniform((len(ids), 2, 2)) * self.size
        far = (places[None, None, :] - centre[..., :1]).abs(), (places[None, None, :] - centre[..., 1:]).abs()
        down, across = far[0][:, :, :, None], far[1][:, :, None, :]
        square = torch.maximum(down[:, 0], across[:, 0]) < self.size / 4
        disc = down[:, 1] ** 2 + across[:, 1] ** 2 < (self.size / 4) ** 2
        masks = torch.where(disc, 2, square.long())
        colours = torch.tensor([[0.2, 0.2, 0.2], [0.7, 0.2, 0.2], [0.2, 0.7, 0.2]])[masks].permute(0, 3, 1, 2)
        images = colours + 0.2 * noise.stream(2).uniform(colours.shape)
        return (images * 255).round().to(torch.uint8), masks, ids


class PerPixel(nn.Module):
    """Three convolutions to logits `[N, K, H, W]`."""

    def __init__(self, classes=3, width=8):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, images):
        return self.last(self.second(self.first(images).relu()).relu())


@dataclass(frozen=True, kw_only=True)
class PixelAscent(Attack):
    """Signed steps up a task's loss of the given targets, as generative training does it with latents."""

    identity: ClassVar[str] = "toy_pixel_ascent/1"
    threat_model: Linf
    task: Task = field(default_factory=Segmentation)
    steps: int = field(default=5, metadata=STEPS)

    def __call__(self, classifier, images, labels, *, seeds=None):
        seeds = fresh_seeds(len(images), images.device) if seeds is None else seeds
        region = self.threat_model.around(unidentified(images, labels), classifier)
        params = region.start(Noise(seeds))
        with frozen(classifier), evaluating(classifier), torch.enable_grad():
            for _ in range(self.steps):
                params = params.detach().requires_grad_()
                loss = self.task.loss(classifier(region.perturb(params)), labels).sum()
                (gradient,) = torch.autograd.grad(loss, params)
                params = region.project(region.ascend(params.detach(), gradient, 0.4))
        return Adversarial(region.perturb(params), params, region.size(params))


@dataclass(frozen=True, kw_only=True)
class Outside(PixelAscent):
    """Shows a white image instead, which its params do not say."""

    identity: ClassVar[str] = "toy_outside/1"

    def __call__(self, classifier, images, labels, *, seeds=None):
        found = super().__call__(classifier, images, labels, seeds=seeds)
        return found._replace(images=torch.ones_like(images))

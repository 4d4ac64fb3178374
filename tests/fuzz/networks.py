"""Small networks with unusual features, each from a specification, and a second computation of their logits."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, fields, replace

import torch
from hypothesis import strategies as st
from torch import nn

SHAPE = (2, 4, 3)
CLASSES = 3
DEAD = -torch.inf
Named = namedtuple("Named", ["extra", "logits"])


@dataclass(frozen=True)
class NetworkSpec:
    """Unusual features of a network; the defaults are an ordinary one."""

    seed: int = 0
    weights: str = "float64"
    output: str = "float64"
    form: str = "tensor"
    normalise: str = "plain"
    masked: int = 0
    end: str = "logits"
    ties: str = "none"
    broken: str = "none"
    batch: str = "alone"
    layout: str = "contiguous"
    slope: str = "whole"
    state: str = "none"
    body: str = "smooth"


CHOICES = {
    "seed": st.integers(0, 20),
    "weights": st.sampled_from(["float64", "float64", "float32", "bfloat16", "float16"]),
    "output": st.sampled_from(["float64", "float32", "float16", "bfloat16", "int64"]),
    "form": st.sampled_from(
        ["tensor", "tuple", "list", "named", "dict", "ordered", "object", "none", "other", "column", "short"]
    ),
    "normalise": st.sampled_from(["plain", "in place", "in place on a view"]),
    "masked": st.integers(0, 3),
    "end": st.sampled_from(["logits", "softmax", "sigmoid", "log-probabilities", "huge", "tiny"]),
    "ties": st.sampled_from(["none", "constant", "twins", "integers", "one class"]),
    "broken": st.sampled_from(["none", "slope", "pixel", "reached", "infinite", "all"]),
    "batch": st.sampled_from(["alone", "batch norm", "mean"]),
    "layout": st.sampled_from(["contiguous", "transposed", "slice", "expanded"]),
    "slope": st.sampled_from(["whole", "detached", "no grad", "inference"]),
    "state": st.sampled_from(["none", "counter", "frozen", "train mode"]),
    "body": st.sampled_from(["smooth", "relu", "dropout", "flat"]),
}
PLAIN = NetworkSpec()


def network_specs(most=3):
    """Specifications with a few unusual features each."""
    names = st.lists(st.sampled_from(sorted(CHOICES)), min_size=0, max_size=most, unique=True)
    return names.flatmap(lambda chosen: st.builds(NetworkSpec, **{name: CHOICES[name] for name in chosen}))


class Network(nn.Module):
    """A network of a specification."""

    def __init__(self, spec):
        super().__init__()
        self.spec = spec
        first, second, mean = parameters_of(spec)
        kind = getattr(torch, spec.weights)
        self.first, self.second = nn.Parameter(first.to(kind)), nn.Parameter(second.to(kind))
        self.register_buffer("mean", mean.to(kind))
        self.dropout = nn.Dropout(0.5)
        if spec.state == "frozen":
            self.requires_grad_(False)
        if spec.state == "counter":
            self.calls = 0
        self.train(spec.state == "train mode")

    def extra_repr(self):
        return repr(self.spec)

    def forward(self, images):
        spec = self.spec
        if spec.state == "counter":
            self.calls += 1
        if spec.slope == "detached":
            images = images.detach().clone() if spec.normalise != "plain" else images.detach()
        guard = {"no grad": torch.no_grad(), "inference": torch.inference_mode()}.get(
            spec.slope, torch.set_grad_enabled(torch.is_grad_enabled())
        )
        with guard:
            logits = self.logits(images)
        return as_output(spec, with_layout(spec, logits))

    def logits(self, images):
        spec, raw = self.spec, images
        if spec.broken != "none":
            raw = images.clone()
        if spec.normalise == "in place":
            images = images.sub_(self.mean.to(images).reshape(-1, 1, 1)).div_(0.5)
        elif spec.normalise == "in place on a view":
            images.flatten(2).sub_(self.mean.to(images)[:, None]).div_(0.5)
        else:
            images = (images - self.mean.to(images).reshape(-1, 1, 1)) / 0.5
        hidden = activation(spec, images.flatten(1).to(self.first) @ self.first)
        if spec.body == "dropout":
            hidden = self.dropout(hidden)
        if spec.batch == "batch norm":  # which raises for one image
            hidden = nn.functional.batch_norm(hidden, None, None, training=True)
        elif spec.batch == "mean" and len(hidden):
            hidden = hidden - hidden.mean(0)
        return with_head(spec, with_singularities(spec, hidden @ self.second, raw))


def parameters_of(spec):
    generator = torch.Generator().manual_seed(spec.seed)
    pixels = SHAPE[0] * SHAPE[1] * SHAPE[2]
    first = torch.randn(pixels, 8, generator=generator, dtype=torch.float64) / 3
    second = torch.randn(8, CLASSES, generator=generator, dtype=torch.float64)
    return first, second, torch.tensor([0.5, 0.25], dtype=torch.float64)


def activation(spec, hidden):
    if spec.body == "flat":
        return (hidden > 0).to(hidden.dtype)
    return hidden.relu() if spec.body == "relu" else hidden.tanh()


def with_singularities(spec, logits, images):
    """Logits with undefined gradients, NaN or infinities that depend on some pixels."""
    corner = images[:, 0, 0, 0]
    if spec.broken == "slope":  # finite everywhere, without a derivative where rows are equal
        rough = ((images[:, :, 1:] - images[:, :, :-1]) ** 2).sum(1).sqrt().mean((1, 2))
        return logits + 0.1 * rough[:, None] * torch.linspace(-1, 1, logits.shape[1]).to(logits)
    if spec.broken == "pixel":  # on some clean images
        return torch.where(corner[:, None] > 0.8, torch.nan, logits)
    if spec.broken == "reached":  # on no clean image
        return torch.where(corner[:, None] > 0.95, torch.nan, logits)
    if spec.broken == "infinite":
        infinite = torch.where(corner > 0.8, torch.inf, logits[:, 0])
        return torch.cat((infinite[:, None].to(logits), logits[:, 1:]), 1)
    if spec.broken == "all":
        return logits * torch.nan
    return logits


def with_head(spec, logits):
    """Ties, scales, probabilities, classes that do not exist."""
    if spec.ties == "constant":
        logits = 0 * logits
    elif spec.ties == "twins":
        logits = torch.cat((logits[:, :1], logits[:, :1], logits[:, 2:]), 1)
    elif spec.ties == "integers":
        logits = logits.round()
    elif spec.ties == "one class":
        logits = logits[:, :1]
    if spec.end == "softmax":
        logits = logits.softmax(1)
    elif spec.end == "sigmoid":
        logits = logits.sigmoid()
    elif spec.end == "log-probabilities":
        logits = logits.log_softmax(1)
    elif spec.end in ("huge", "tiny"):
        logits = logits * {"huge": 1e4, "tiny": 1e-4}[spec.end]
    logits = logits.to(getattr(torch, spec.output))
    if spec.masked and logits.is_floating_point():
        logits = torch.cat((logits, logits.new_full((len(logits), spec.masked), DEAD)), 1)
    return logits


def with_layout(spec, logits):
    if spec.layout == "transposed":
        return logits.t().contiguous().t()
    if spec.layout == "slice":
        return torch.stack((logits, -logits), 2)[:, :, 0]
    if spec.layout == "expanded" and spec.ties == "constant":
        return logits[:, :1].expand(-1, logits.shape[1])
    return logits


def as_output(spec, logits):
    forms = {
        "tuple": lambda: (logits, "features"),
        "list": lambda: [logits, logits + 1],
        "named": lambda: Named(logits.float().sin(), logits),
        "dict": lambda: {"loss": logits.sum(), "logits": logits},
        "ordered": lambda: OrderedDict(logits=logits),
        "object": lambda: type("Output", (), {"logits": logits})(),
        "none": lambda: None,
        "other": lambda: {"out": logits},
        "column": lambda: logits[:, 0],
        "short": lambda: logits[:-1],
    }
    return forms.get(spec.form, lambda: logits)()


REFUSED_FORMS = ("none", "other", "column", "short")


def refused(spec):
    """Whether no number can be right: it has no float logits of two classes, or they are NaN from the start."""
    return (
        spec.form in REFUSED_FORMS
        or spec.output == "int64"
        or (spec.ties == "one class" and not spec.masked)
        or spec.broken == "all"
    )


def may_refuse(spec):
    """Whether NaN may be met by and by."""
    overflows = spec.end == "huge" and "float16" in (spec.weights, spec.output)
    undefined = spec.broken == "infinite" and (spec.end in ("softmax", "log-probabilities") or spec.ties == "constant")
    return spec.broken in ("pixel", "reached") or overflows or undefined


def has_slope(spec):
    """Whether autograd follows the logits back to the images."""
    return spec.slope == "whole" and (spec.body != "flat" or spec.broken == "slope")


def plain_equivalent(spec, ranked):
    """A network with the same logits for every image, in the plainest form.

    An attack on ranked targets has more tries where there are more classes, also of classes that do not exist.
    """
    same = {"form", "normalise", "layout", "state"}
    if not ranked and spec.ties != "one class":
        same.add("masked")
    return replace(spec, **{one.name: one.default for one in fields(NetworkSpec) if one.name in same})


def logits_by_another_way(spec, images):
    """The logits `[N, K]` of images, one at a time and out of place: nothing of the border, of modes or of batches."""
    first, second, mean = (part.to(getattr(torch, spec.weights)) for part in parameters_of(spec))
    rows = []
    for image in images:
        one = image[None].clone()
        normal = (one - mean.to(one).reshape(1, -1, 1, 1)) / 0.5
        hidden = activation(spec, normal.flatten(1).to(first) @ first)
        rows.append(with_head(spec, with_singularities(spec, hidden @ second, one)))
    return torch.cat(rows)

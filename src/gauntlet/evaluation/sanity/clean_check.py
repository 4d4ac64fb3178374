"""Check the accuracy on clean images and the range of pixels before an evaluation starts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gauntlet.errors import NotFiniteError, UserError
from gauntlet.evaluation.verification import ModelUnderTest, device_of
from gauntlet.models import logits_of
from gauntlet.scopes import evaluating, exact


@dataclass(frozen=True)
class CleanCheck:
    """The result of the check on the first chunk of clean images."""

    accuracy: float
    examples: int
    classes: int
    """Number of classes, K of the logits."""
    low: float
    """The smallest pixel value."""
    high: float
    """The largest pixel value."""

    def __str__(self) -> str:
        pixels = f"images in [{self.low:.3g}, {self.high:.3g}]"
        return f"clean accuracy {100 * self.accuracy:.1f} % on the first {self.examples}; {pixels}"

    @property
    def warnings(self) -> list[str]:
        """Reasons why an evaluation would be useless; empty if there are none.

        Accuracy counts as near chance if it is less than a tenth of the way from 1/K to 1.
        """
        chance = 1 / self.classes
        warnings = []
        if self.accuracy < chance + 0.1 * (1 - chance):
            warnings.append(
                f"clean accuracy {100 * self.accuracy:.1f} % is near chance ({100 * chance:.1f} %): the weights,"
                f" the normalisation inside the model (mean, std) or the order of the classes are not this dataset's"
            )
        if self.high - self.low < 0.1:
            warnings.append(
                f"the images use only [{self.low:.3g}, {self.high:.3g}] of [0, 1]: were they divided by 255 twice?"
            )
        return warnings


@torch.no_grad()
def clean_check(model: ModelUnderTest, chunk: slice) -> CleanCheck:
    """Check one chunk with one forward pass.

    Raises:
        UserError: there are no examples, images are outside [0, 1], or labels are not classes of the classifier.
        NotFiniteError: the classifier answered NaN.
    """
    batch = model.examples[chunk]
    if not len(batch.labels):
        raise UserError("the test split has no examples: there is nothing to evaluate on")
    low, high = batch.images.amin().item(), batch.images.amax().item()
    if not (low >= 0 and high <= 1):  # NaN too
        raise UserError(f"images run from {low:.4g} to {high:.4g}: expected [0, 1]; normalisation is the classifier's")
    device = device_of(model.classifier)
    with exact(), evaluating(model.classifier):
        logits = logits_of(model.classifier, batch.images.to(device)).cpu()
    if logits.isnan().any():
        raise NotFiniteError("the classifier answered NaN on clean images: such examples are neither right nor robust")
    classes = logits.shape[1]
    if not (batch.labels.min() >= 0 and batch.labels.max() < classes):
        raise UserError(f"labels run up to {int(batch.labels.max())}, the classifier's classes are 0 to {classes - 1}")
    right = (logits.argmax(1) == batch.labels.cpu()).float().mean().item()
    return CleanCheck(right, len(batch.labels), classes, low, high)

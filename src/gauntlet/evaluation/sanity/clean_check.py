"""Check the accuracy on clean images and the range of pixels before an evaluation starts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gauntlet.errors import NotFiniteError, UserError
from gauntlet.evaluation.verification import ModelUnderTest, device_of
from gauntlet.scopes import evaluating, exact


@dataclass(frozen=True)
class CleanCheck:
    """The result of the check on the first chunk of clean images."""

    accuracy: float
    examples: int
    chance: float
    """Accuracy of random guesses."""
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

        Accuracy counts as near chance if it is less than a tenth of the way from chance to 1.
        """
        warnings = []
        if self.accuracy < self.chance + 0.1 * (1 - self.chance):
            warnings.append(
                f"clean accuracy {100 * self.accuracy:.1f} % is near chance ({100 * self.chance:.1f} %): the weights,"
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
        outputs = model.outputs(batch.images.to(device)).cpu()
    if outputs.isnan().any():
        raise NotFiniteError("the classifier answered NaN on clean images: such examples are neither right nor robust")
    classes, (lowest, highest) = model.task.classes(outputs), model.task.class_range(batch.labels)
    if not (lowest >= 0 and highest < classes):
        raise UserError(f"labels run up to {highest}, the classifier's classes are 0 to {classes - 1}")
    accuracy = model.task.score(outputs, batch.labels.cpu()).mean().item()
    return CleanCheck(accuracy, len(batch.labels), model.task.chance(classes), low, high)

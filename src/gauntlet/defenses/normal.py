"""Normal training on clean images, the baseline of every defense."""

from __future__ import annotations

from torch import Tensor

from gauntlet.data import Batch
from gauntlet.defenses.defense import Defense


class NormalTraining(Defense):
    """Cross-entropy on clean images."""

    @property
    def trained_on(self) -> list[str]:
        """Empty."""
        return []

    def losses(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the clean images, `[N]`."""
        outputs = self.outputs(batch.images)
        right = (outputs.logits.detach().argmax(1) == batch.labels).float()
        self.note("train", len(right), clean_accuracy=right.mean())
        return self.classification(outputs, batch.labels)

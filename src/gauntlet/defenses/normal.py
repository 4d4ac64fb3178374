"""Normal training on clean images, the baseline of every defense."""

from __future__ import annotations

from torch import Tensor

from gauntlet.data import Batch
from gauntlet.defenses.defense import Defense


class NormalTraining(Defense):
    """The task's loss on clean images: cross-entropy of a classifier."""

    @property
    def trained_on(self) -> list[str]:
        """Empty."""
        return []

    def losses(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the clean images, `[N]`."""
        outputs = self.outputs(batch.images)
        self.note("train", clean_accuracy=self.task.score(outputs.logits.detach(), batch.labels))
        return self.loss(outputs, batch.labels)

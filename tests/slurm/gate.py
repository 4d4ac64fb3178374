"""A callback that stops training at a step until it is released, so that a kill always comes at the same step."""

import os
import time
from pathlib import Path

from lightning import Callback


class Gate(Callback):
    """Waits before a step; `at_gate.<rank>` in the run folder has the waiting process, `open` lets all continue.

    Args:
        step: before which one.
        open: the file that opens it.
    """

    def __init__(self, step: int, open: str) -> None:  # noqa: A002
        self.step, self.open = step, Path(open)

    def on_train_batch_start(self, trainer, *_):
        """Wait here."""
        if trainer.global_step == self.step:
            (Path(trainer.default_root_dir) / f"at_gate.{trainer.global_rank}").write_text(str(os.getpid()))
            while not self.open.exists():
                time.sleep(0.05)

"""Handle stop signals between two training steps, after a checkpoint was saved."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException


class StopSignals:
    """SIGTERM, and the signal with which submitit announces the end of a job's time.

    Lightning's handler of SIGTERM runs a collective, which hangs when two ranks are in different parts of the code;
    submitit's handler acts at once, in the middle of a step. Here a handler only stores the signal, and the training
    loop acts on it between two steps.

    Args:
        patience: seconds after which submitit's handler is called in any case.
    """

    def __init__(self, patience: int = 60) -> None:
        self.patience = patience
        self.requested: signal.Signals | None = None
        self.received = False
        self._handlers: dict[signal.Signals, Any] = {}
        self._process = os.getpid()

    def listen(self) -> None:
        """Install the handlers; that of submitit's signal only inside its jobs."""
        if threading.current_thread() is not threading.main_thread():
            return
        numbers = [signal.SIGTERM]
        if "SUBMITIT_EXECUTOR" in os.environ:
            numbers.append(_submitit_signal())
        self._handlers = {number: signal.getsignal(number) for number in numbers}
        self._process = os.getpid()
        for number in numbers:
            signal.signal(number, self._store)

    def restore(self) -> None:
        """Restore the former handlers, and raise a stored signal again for them."""
        if self._handlers:
            signal.alarm(0)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        requested = self.requested
        self._handlers, self.requested = {}, None
        if requested is not None:
            signal.raise_signal(requested)

    def obey(self, requested: signal.Signals, is_first: bool) -> None:
        """Stop as requested; does not return. Only the first rank calls submitit's handler, which requeues the job."""
        handler = self._handlers.get(requested)
        self.requested = None
        self.restore()
        if requested == signal.SIGTERM:
            raise SIGTERMException
        if is_first and callable(handler):
            handler(requested, None)
        raise SystemExit(0)

    def _store(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker of the data loader inherits the handler
            return
        self.requested = signal.Signals(number)
        self.received = True
        handler = self._handlers[self.requested]
        if self.requested != signal.SIGTERM:
            signal.signal(signal.SIGALRM, lambda *_: handler(number, None))
            signal.alarm(self.patience)


def _submitit_signal() -> signal.Signals:
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]

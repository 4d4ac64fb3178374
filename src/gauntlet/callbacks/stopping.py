"""Signals that ask training to stop are obeyed between two steps, when there is something to go on from."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException


class StopSignals:
    """SIGTERM, and the signal by which submitit's jobs learn that their time is nearly over.

    Lightning answers SIGTERM with a collective inside the handler, which hangs when two ranks are at different places;
    submitit answers its own at once, in the middle of a step. Here a signal is a wish that the training loop asks for.

    Args:
        patience: seconds after which submitit's answer is no longer put off, whatever the loop is doing.
    """

    def __init__(self, patience: int = 60) -> None:
        self.patience = patience
        self.asked: signal.Signals | None = None
        self.ever = False
        self._answers: dict[signal.Signals, Any] = {}
        self._process = os.getpid()

    def listen(self) -> None:
        """From now on. Without submitit its signal is nobody's."""
        if threading.current_thread() is not threading.main_thread():
            return
        mine = [signal.SIGTERM, *([_submitits()] if "SUBMITIT_EXECUTOR" in os.environ else [])]
        self._answers = {each: signal.getsignal(each) for each in mine}
        self._process = os.getpid()
        for each in mine:
            signal.signal(each, self._note)

    def forget(self) -> None:
        """Hand the signals back to whoever had them, and one that nobody has obeyed yet with them."""
        if self._answers:
            signal.alarm(0)
        for each, answer in self._answers.items():
            signal.signal(each, answer)
        self._answers, asked, self.asked = {}, self.asked, None
        if asked is not None:
            signal.raise_signal(asked)

    def obey(self, asked: signal.Signals, leads: bool) -> None:
        """Stop as was asked; does not return. submitit's answer is the first rank's: it queues the job again."""
        answer, self.asked = self._answers.get(asked), None
        self.forget()
        if asked == signal.SIGTERM:
            raise SIGTERMException
        if leads and callable(answer):
            answer(asked, None)
        raise SystemExit(0)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that reads images was forked with the handler
            return
        self.asked, self.ever = signal.Signals(number), True
        answer = self._answers[self.asked]
        if self.asked != signal.SIGTERM:
            signal.signal(signal.SIGALRM, lambda *_: answer(number, None))
            signal.alarm(self.patience)


def _submitits() -> signal.Signals:
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]

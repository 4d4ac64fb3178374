"""Signals wait for the end of a step, and their former handlers are restored."""

import os
import signal

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from gauntlet.callbacks import KeepResumable
from gauntlet.callbacks.stopping import StopSignals


@pytest.fixture
def signals_received(monkeypatch):
    """The signals received by the former handlers."""
    signals_received = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM)}
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, _: signals_received.append(number))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    yield signals_received
    signal.alarm(0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_is_stored_and_not_handled_at_once(signals_received, number):
    signals = StopSignals()
    signals.listen()
    signal.raise_signal(number)
    assert (signals.requested, signals.received, signals_received) == (number, True, [])


def test_sigterm_ends_training_as_lightning_would(signals_received):
    signals = StopSignals()
    signals.listen()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SIGTERMException):
        signals.obey(signals.requested, is_first=True)
    assert signals_received == []


@pytest.mark.parametrize("is_first", [True, False])
def test_submitits_handler_is_called_on_the_first_rank_only(signals_received, is_first):
    signals = StopSignals()
    signals.listen()
    signal.raise_signal(signal.SIGUSR2)
    with pytest.raises(SystemExit):
        signals.obey(signals.requested, is_first)
    assert signals_received == ([signal.SIGUSR2] if is_first else [])


def test_submitits_handler_is_called_after_patience_at_the_latest(signals_received):
    signals = StopSignals(patience=1)
    signals.listen()
    signal.raise_signal(signal.SIGUSR2)
    signal.pause()  # until the alarm
    assert signals_received == [signal.SIGUSR2]


def test_a_pending_signal_is_raised_for_the_former_handler(signals_received):
    signals = StopSignals()
    signals.listen()
    signal.raise_signal(signal.SIGUSR2)
    signals.restore()
    assert signals_received == [signal.SIGUSR2]
    signal.raise_signal(signal.SIGTERM)
    assert signals_received == [signal.SIGUSR2, signal.SIGTERM]


def test_without_submitit_its_signal_is_not_handled(signals_received, monkeypatch):
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    signals = StopSignals()
    signals.listen()
    signal.raise_signal(signal.SIGUSR2)
    assert (signals.requested, signals_received) == (None, [signal.SIGUSR2])


def test_a_forked_worker_ignores_signals(signals_received):
    signals = StopSignals()
    signals.listen()
    child = os.fork()
    if not child:
        signal.raise_signal(signal.SIGUSR2)
        os._exit(signals.requested is not None)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_checkpoint_at_negative_intervals_is_refused():
    with pytest.raises(ValueError, match="every -1 seconds: expected at least 0"):
        KeepResumable(every_seconds=-1)

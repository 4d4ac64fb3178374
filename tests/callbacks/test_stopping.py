"""Signals wait for the end of a step, and are handed back to whoever had them."""

import os
import signal

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from gauntlet.callbacks.stopping import StopSignals


@pytest.fixture
def heard(monkeypatch):
    """What the handlers that were there before have heard."""
    heard = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM)}
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, _: heard.append(number))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    yield heard
    signal.alarm(0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_is_noted_and_not_obeyed(heard, number):
    signals = StopSignals()
    signals.listen()
    signal.raise_signal(number)
    assert (signals.requested, signals.received, heard) == (number, True, [])


def test_sigterm_ends_training_as_lightning_would(heard):
    signals = StopSignals()
    signals.listen()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SIGTERMException):
        signals.obey(signals.requested, is_first=True)
    assert heard == []


@pytest.mark.parametrize("is_first", [True, False])
def test_submitit_answers_its_signal_on_the_first_rank_alone(heard, is_first):
    signals = StopSignals()
    signals.listen()
    signal.raise_signal(signal.SIGUSR2)
    with pytest.raises(SystemExit):
        signals.obey(signals.requested, is_first)
    assert heard == ([signal.SIGUSR2] if is_first else [])


def test_an_answer_is_put_off_no_longer_than_patience_allows(heard):
    signals = StopSignals(patience=1)
    signals.listen()
    signal.raise_signal(signal.SIGUSR2)
    signal.pause()  # until the alarm
    assert heard == [signal.SIGUSR2]


def test_a_signal_that_nobody_obeyed_is_handed_back(heard):
    signals = StopSignals()
    signals.listen()
    signal.raise_signal(signal.SIGUSR2)
    signals.restore()
    assert heard == [signal.SIGUSR2]
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGUSR2, signal.SIGTERM]


def test_without_submitit_its_signal_is_nobody_s(heard, monkeypatch):
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    signals = StopSignals()
    signals.listen()
    signal.raise_signal(signal.SIGUSR2)
    assert (signals.requested, heard) == (None, [signal.SIGUSR2])


def test_a_forked_worker_does_not_answer(heard):
    signals = StopSignals()
    signals.listen()
    child = os.fork()
    if not child:
        signal.raise_signal(signal.SIGUSR2)
        os._exit(signals.requested is not None)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

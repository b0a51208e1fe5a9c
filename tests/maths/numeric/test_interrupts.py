"""Ctrl-C that compiled code meets is Ctrl-C."""

import contextlib
import signal
import threading

import pytest

from splisosm_pyro.maths.numeric.interrupts import interrupts_heard


def swallowed():
    """An interrupt that is lost on the way, as at the border of compiled code."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def taken_for_a_failure():
    """One that numba turns into another error."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:
        raise SystemError("returned a result with an exception set") from error


@pytest.fixture(autouse=True)
def own_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("interrupt", [swallowed, taken_for_a_failure])
def test_an_interrupt_ends_the_work(interrupt):
    heard = interrupts_heard()(interrupt)
    with pytest.raises(KeyboardInterrupt):
        heard()
    with pytest.raises(KeyboardInterrupt), interrupts_heard():
        heard()


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), interrupts_heard():
        1 / 0  # noqa: B018


def test_a_handler_that_raises_nothing_goes_on_raising_nothing():
    calls = []
    signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    with interrupts_heard():
        signal.raise_signal(signal.SIGINT)
    assert calls == [1]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts_heard():
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_other_threads_work_as_before():
    done = []

    def work():
        with interrupts_heard():
            done.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [1]

"""Ctrl-C (SIGINT) and SIGTERM, which a cluster sends before it takes a machine away: both end a stage in good order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM; all that is done on Ctrl-C is done on it."""


def outcome(error: KeyboardInterrupt) -> tuple[str, int]:
    """One word for what ended the process, and its exit status by the shell's convention."""
    number, word = (signal.SIGTERM, "terminated") if isinstance(error, Terminated) else (signal.SIGINT, "interrupted")
    return word, 128 + number


@contextlib.contextmanager
def raising_on_sigterm() -> Iterator[None]:
    """SIGTERM raises ``Terminated`` in the main thread, as Ctrl-C raises KeyboardInterrupt."""

    def stop(*signal_and_frame: object) -> None:
        raise Terminated

    with _handling(signal.SIGTERM, handler=stop):
        yield


class StopRequest:
    """While in context, the first Ctrl-C or SIGTERM only asks; a second one does what it did before.

    Ask ``asked`` where the work can be left, and raise ``take()`` there.
    """

    def __init__(self) -> None:
        self._error: type[KeyboardInterrupt] | None = None
        self._stack = contextlib.ExitStack()

    @property
    def asked(self) -> bool:
        """True after a signal that nobody has taken."""
        return self._error is not None

    def take(self) -> KeyboardInterrupt:
        """The error to raise; nothing is asked then."""
        error, self._error = self._error or KeyboardInterrupt, None
        return error()

    def __enter__(self) -> StopRequest:
        self._stack.enter_context(_handling(signal.SIGINT, signal.SIGTERM, handler=self._ask))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _ask(self, number: int, frame: object) -> None:
        self._error = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        self._stack.close()


@contextlib.contextmanager
def _handling(*numbers: signal.Signals, handler: Any) -> Iterator[None]:
    """Handle signals; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():  # None: one that Python did not set
            signal.signal(number, signal.SIG_DFL if old is None else old)

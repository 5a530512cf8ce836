"""Ending a job from outside of what it is doing: at its time limit, or when a scheduler tells it to stop.

Both raise in the main thread wherever it stands, also in a call of Spark. What they raise is no `Exception`, as
KeyboardInterrupt is none: nobody who handles faults swallows it, and context managers still tidy up.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

Status = Literal["done", "failed", "refused", "busy", "timed_out", "stopped", "lost"]
"""`failed`: a fault (exit code 1); `refused`: bad input (2); `busy`: another job held the lock (2); `timed_out` and
`stopped`: ended at the limit, or by a signal (1); `lost`: another job took the lock over (1)."""

GRACE_SECONDS = 60.0
"""How long a job that was told to stop may take to tidy up, before its process is ended."""


class Ended(BaseException):
    """The job was ended from outside; its text is one line for the user."""

    status: Status = "stopped"


class TimedOut(Ended):
    """It met its time limit."""

    status: Status = "timed_out"


class Stopped(Ended):
    """It was told to stop by a signal."""


def ended_within(error: BaseException) -> Ended | None:
    """The end that a fault hides: tidying up after it may fail in its turn, as Spark does where a call was cut off."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        cause = left.pop()
        if isinstance(cause, Ended):
            return cause
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            left += [cause.__cause__, cause.__context__]
    return None


@contextmanager
def stoppable() -> Iterator[None]:
    """Where SIGTERM would end the process as it stands, raise Stopped instead. Does nothing off the main thread."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # asked twice, it ends at once
        raise Stopped(f"stopped by {signal.Signals(number).name}")

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def limited(
    minutes: float | None,
    cancel: Callable[[], None],
    last_words: Callable[[TimedOut], None],
    grace: float = GRACE_SECONDS,
) -> Iterator[None]:
    """Raise TimedOut in the main thread when `minutes` have passed.

    `cancel` is called from another thread then, to end what holds the main one up. Where that does not come to an end
    within `grace` seconds after all, `last_words` is called and the process ends with exit code 1: what it had not
    committed is not there. Off the main thread that is all that happens.
    """
    if minutes is None:
        yield
        return
    error = TimedOut(f"stopped at its time limit of {minutes:g} minutes (schedule.limit_minutes)")
    over = threading.Event()
    seconds = minutes * 60

    def fire(number: int, frame: FrameType | None) -> None:
        if not over.is_set():
            raise error

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, fire) if main else None

    def watch() -> None:
        if over.wait(seconds):
            return
        for _ in range(2):  # twice: the first one may have met a place that swallows everything, such as __del__
            if main:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
            threading.Thread(target=cancel, daemon=True).start()  # which may hang, too
            if over.wait(grace / 2):
                return
        words = threading.Thread(target=last_words, args=(error,), daemon=True)
        words.start()
        words.join(grace / 2)
        os._exit(1)

    thread = threading.Thread(target=watch, name="time-limit", daemon=True)
    thread.start()
    try:
        yield
    finally:
        try:
            over.set()
        finally:
            over.set()  # where the limit was met within the line above
            if main:  # a signal that comes late must not end the process
                signal.signal(signal.SIGALRM, signal.SIG_IGN if before == signal.SIG_DFL else before)

"""Delivering a message: tried a few times, and what went wrong is told without any secret."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Said = TypeVar("Said")


class DeliveryError(Exception):
    """A message was not delivered; the text is one line, and holds nothing of URLs, passwords and answers."""

    def __init__(self, said: str, *, again: bool) -> None:
        super().__init__(said)
        self.again = again
        """May a further try do better."""


def deliver(
    send: Callable[[], Said], tries: int, pause_seconds: float, sleep: Callable[[float], None] = time.sleep
) -> Said:
    """Call `send` until it succeeds, up to `tries` times, and return what it returned; the pause doubles each time.

    Raises DeliveryError where it does not, at once where a further try is of no use.
    """
    for number in range(1, tries + 1):
        try:
            return send()
        except DeliveryError as error:
            if not error.again:
                raise
            if number == tries:
                times = "once" if tries == 1 else f"{tries} times"
                raise DeliveryError(f"{error} (tried {times})", again=False) from None
        sleep(pause_seconds * 2 ** (number - 1))
    raise AssertionError("tries is at least 1")


def failure(error: OSError) -> str:
    """What an error of the network says without naming anybody."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or type(error).__name__

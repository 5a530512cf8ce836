"""Questions without an answer."""

from __future__ import annotations


class NotReadyError(Exception):
    """No publication has been loaded yet."""


class OverloadedError(Exception):
    """So many lists wait already that this one is refused."""


class RefusedError(Exception):
    """A question that cannot be answered, with the status that says so and the reason in words."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

"""The model that answers: loaded whole beside the one before, tried, and only then put in its place."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from recsys_spark.errors import UserError
from recsys_spark.online.live_model import LiveModel
from recsys_spark.online.overlay import Overlay
from recsys_spark.online.store import OnlineStore, Publication, StoreError, UserState
from recsys_spark.online.trending import LiveCounts

NOBODY = UserState("")
"""A user without history."""
REST_SECONDS, LONGEST_REST = 10.0, 600.0
"""Seconds for which a publication that could not be loaded is let alone: at first, and at most; doubled each time."""
logger = logging.getLogger("recsys_spark")


@dataclass(frozen=True)
class Champion:
    """A publication with its model, ready to answer. Never changed: another one takes its place."""

    live: LiveModel
    """With what was learned online."""
    parameters: int
    """Version of the online parameters that it has; 0 for none."""
    revision: int
    """1, 2, 3, ...: which of all the champions of this process."""

    @property
    def publication(self) -> Publication:
        """What it answers for."""
        return self.live.publication


@dataclass(frozen=True)
class _Failed:
    """A publication that could not be loaded."""

    publication: Publication
    rest: float
    """Seconds for which it is let alone."""
    until: float
    """When it is tried again, by the clock."""


class Champions:
    """Looks for what serves. `current` is set by whoever called `newer`, in one assignment; one caller at a time."""

    def __init__(
        self,
        store: OnlineStore,
        refresh_seconds: float,
        load: Callable[[Publication], LiveModel] = LiveModel.load,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.current: Champion | None = None
        self._store = store
        self._refresh_seconds = refresh_seconds
        self._load = load
        self._clock = clock
        self._refreshed_at = 0.0
        self._learned: tuple[int, LiveCounts] = (0, {})
        self._failed: _Failed | None = None

    def newer(self) -> Champion | None:
        """The champion that should take over, loaded and tried; None where the current one stays. Slow: seconds.

        Raises UserError where the publication's model is gone or damaged, and StoreError where the store is. Loading
        reads all of a model: one that failed is tried again after a while only, and another one at once.
        """
        publication, failed = self._store.publication(), self._failed
        if publication is None:
            return None
        again = failed is not None and failed.publication == publication
        if failed is not None and again and self._clock() < failed.until:
            return None
        try:
            champion = self._newer(publication)
        except StoreError:
            raise
        except Exception:
            rest = min(2 * failed.rest, LONGEST_REST) if failed is not None and again else REST_SECONDS
            self._failed = _Failed(publication, rest, self._clock() + rest)
            raise
        self._failed = None
        return champion

    def _newer(self, publication: Publication) -> Champion | None:
        current = self.current
        if current is None:
            return self._tried(self._load(publication))
        if publication == current.publication:
            due = self._clock() - self._refreshed_at >= self._refresh_seconds
            return self._tried(current.live) if due else None
        if publication.model == current.publication.model:
            return self._tried(LiveModel(current.live.champion, publication))
        return self._tried(self._load(publication))

    def _tried(self, live: LiveModel) -> Champion | None:
        """The champion with what was learned online; without, where that does not fit. None where it serves already."""
        self._refreshed_at = self._clock()
        version, learned = self._store.parameters()
        counts, current = self._store.counts(), self.current
        if current is not None and live is current.live and self._learned == (version, counts):
            return None
        self._learned = (version, counts)
        try:
            live = live.with_overlay(Overlay.of_store(live.publication.model, learned, counts))
        except UserError as error:
            logger.warning("online parameters are left out: %s", error)
            live, version = LiveModel(live.champion, live.publication), 0
        live.lists([NOBODY])  # what is made at first use is made here, and a model that cannot answer fails here
        return Champion(live, version, 1 if current is None else current.revision + 1)

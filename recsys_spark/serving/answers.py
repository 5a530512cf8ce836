"""From questions to answers: what is kept, what is stored, and what has to be computed.

Lives in the event loop: the store is asked in threads of its own, lists are made in others, so nothing here blocks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from recsys_spark.config.serving import Serving
from recsys_spark.online.events import LiveEvent
from recsys_spark.online.store import OnlineStore, UserState
from recsys_spark.serving.batching import ListMaker
from recsys_spark.serving.caching import AnswerCache
from recsys_spark.serving.champion import NOBODY, Champion, Champions
from recsys_spark.serving.errors import NotReadyError, RefusedError
from recsys_spark.serving.event_files import EventFiles
from recsys_spark.serving.messages import Events, EventsTaken, Session
from recsys_spark.serving.metrics import Metrics
from recsys_spark.serving.questions import live_events, session_state, with_context
from recsys_spark.serving.wording import (
    Made,
    Rendered,
    body_of,
    recommendations,
    similar_items,
    similar_or_popular,
)

Result = TypeVar("Result")
VISITOR = ""
"""Whose name visitors' answers have in metrics and caches."""


@dataclass(frozen=True)
class Parts:
    """What answers are made with."""

    store: OnlineStore
    champions: Champions
    maker: ListMaker
    pool: ThreadPoolExecutor
    """Threads that speak to the store and write files."""
    files: EventFiles | None
    """None where the stream takes events from elsewhere."""
    metrics: Metrics


class Answers:
    """Answers every question of the API."""

    def __init__(self, serving: Serving, parts: Parts, clock: Callable[[], float] = time.time) -> None:
        cache = serving.cache
        self._serving = serving
        self._parts = parts
        self._clock = clock
        self._lists: AnswerCache[Rendered] = AnswerCache(cache.size, cache.ttl_seconds)
        self._similar: AnswerCache[bytes] = AnswerCache(cache.size, cache.ttl_seconds)

    @property
    def champion(self) -> Champion:
        """The model that answers. Raises NotReadyError before the first."""
        current = self._parts.champions.current
        if current is None:
            raise NotReadyError
        return current

    def switch(self, champion: Champion) -> None:
        """Let another champion answer from now on; answers that are on their way are finished by the one before."""
        before = self._parts.champions.current
        self._parts.champions.current = champion
        if before is None or before.publication.number != champion.publication.number:
            self._lists.clear()
            self._similar.clear()

    async def for_user(self, user_id: str, k: int | None, context: Sequence[str] = ()) -> Rendered:
        """The user's list; with `context`, items of the moment, made for this question."""
        champion = self.champion
        k = self._wanted(champion, k)
        key = (tuple(context), k)
        kept = self._lists.get(user_id, key)
        if kept is not None and self._lists.clock() - kept.checked_at < self._serving.cache.trust_seconds:
            return self._given(kept.answer, "hit")
        with self._lists.reading(user_id) as reading:
            state = await self.state(user_id)
            made_from = _made_from(champion, state)
            if kept is not None and kept.made_from == made_from:
                reading.keep(key, kept.answer, made_from)
                return self._given(kept.answer, "checked")
            made = await self._made(champion, state, k, context)
            answer = Rendered.of(recommendations(champion, user_id, state, made), k)
            reading.keep(key, answer, made_from)
        return self._given(answer, "miss")

    async def for_session(self, session: Session) -> Rendered:
        """A visitor's list; nothing of it is kept. Raises RefusedError for impossible times, and too long histories."""
        champion = self.champion
        state = session_state(session, champion.publication, self._clock(), self._serving.limits.session_events)
        k = self._wanted(champion, session.k)
        made = await self._computed(champion, state, k)
        return self._given(Rendered.of(recommendations(champion, None, state, made), k), "visitor")

    async def similar(self, item_id: str, k: int | None) -> bytes:
        """JSON of `SimilarItems`: the items most like one; what is popular where the model does not know it."""
        champion = self.champion
        k = self._wanted(champion, k)
        kept = self._similar.get(item_id, k)
        if kept is not None:
            return kept.answer
        with self._similar.reading(item_id) as reading:
            if champion.live.known(item_id):
                found = await self._asked(champion.live.similar, item_id, max(k, champion.publication.k))
                answer = body_of(similar_items(champion, item_id, found), k)
            else:
                made = await self._computed(champion, NOBODY, k)
                answer = body_of(similar_or_popular(champion, item_id, made.list), k)
            reading.keep(k, answer, champion.revision)
        return answer

    async def take(self, events: Events) -> EventsTaken:
        """Take events in: they count from the next answer on. Raises RefusedError for what is not valid."""
        files = self._parts.files
        if files is None:
            raise RefusedError(409, "the stream takes its events from Kafka: send them there")
        taken = live_events(events, self._clock(), self._serving.limits.events)
        # All of them go to the stream, which knows what it had: where writing failed the caller sends them again.
        news = await self._asked(self._accepted, taken, files)
        self._lists.forget({event.user_id for event in taken})
        duplicates = [event.event_id for event, new in zip(taken, news, strict=True) if not new]
        self._parts.metrics.events.labels("accepted").inc(len(taken) - len(duplicates))
        self._parts.metrics.events.labels("duplicate").inc(len(duplicates))
        current = self._parts.champions.current
        items = dict.fromkeys(event.item_id for event in taken)
        unknown = [] if current is None else [item for item in items if not current.live.known(item)]
        return EventsTaken(accepted=sum(news), duplicates=duplicates, unknown_items=unknown)

    async def state(self, user_id: str) -> UserState:
        """What the store knows of a user: an empty state where that is nothing."""
        found = await self._asked(self._parts.store.users, [user_id])
        return found.get(user_id) or UserState(user_id)

    async def ping(self) -> None:
        """Raises StoreError where the store does not answer."""
        await self._asked(self._parts.store.ping)

    def _accepted(self, events: Sequence[LiveEvent], files: EventFiles) -> list[bool]:
        news = self._parts.store.accept(events)
        files.write(events)
        return news

    def _wanted(self, champion: Champion, k: int | None) -> int:
        """Length of the answer, by default that of the published lists."""
        limit = self._serving.limits.k
        if k is not None and k > limit:
            raise RefusedError(422, f"k: at most {limit}")
        return k or champion.publication.k

    async def _made(self, champion: Champion, state: UserState, k: int, context: Sequence[str]) -> Made:
        stored = state.list
        if stored is not None and not context and not state.stale and k <= champion.publication.k:
            return Made(stored, "store")
        if not context:
            return await self._computed(champion, state, k)
        known = [item for item in context if champion.live.known(item)]
        unknown = [item for item in context if item not in known]
        joined = with_context(state, known, champion.publication)
        made = await self._computed(champion, joined, k, len(known))
        return made.without(set(known), max(k, champion.publication.k), unknown)

    async def _computed(self, champion: Champion, state: UserState, k: int, more: int = 0) -> Made:
        """Made at least as long as the published lists, to be cut: so both begin alike, under any rules."""
        length = max(k, champion.publication.k) + more
        with self._parts.metrics.computing.time():
            return Made(await self._parts.maker.make(champion, state, length), "computed")

    async def _asked(self, function: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._parts.pool, function, *arguments)

    def _given(self, answer: Rendered, looked: str) -> Rendered:
        metrics = self._parts.metrics
        metrics.cache.labels(looked).inc()
        metrics.lists.labels(answer.source, answer.kind).inc()
        return answer


def _made_from(champion: Champion, state: UserState) -> Hashable:
    """What a list follows from: the model with what it learned, the events, and the stored list."""
    newest = state.history[-1].event_id if state.history else None
    made_at = state.list.made_at if state.list is not None else None
    return champion.revision, state.events, newest, made_at

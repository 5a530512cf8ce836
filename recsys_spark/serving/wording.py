"""Lists as answers: with titles, and with words for why a list is not a personal one."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from recsys_spark.online.store import StoredList, UserState
from recsys_spark.serving.champion import Champion
from recsys_spark.serving.messages import Item, Recommendations, SimilarItem, SimilarItems

FALLBACKS = {
    "segment": "this is what shoppers of a segment choose",
    "trending": "this is what is on the rise",
    "popular": "this is what is popular",
}


@dataclass(frozen=True)
class Made:
    """A list, and where it comes from."""

    list: StoredList
    source: Literal["store", "computed"]
    unknown_items: tuple[str, ...] = ()
    """Items of the question that the model does not know."""

    def without(self, items: AbstractSet[str], length: int, unknown_items: Sequence[str]) -> Made:
        """The list without some items, cut to its length."""
        kept = [row for row in self.list.rows if row.item_id not in items][:length]
        rows = tuple(replace(row, rank=rank) for rank, row in enumerate(kept, 1))
        return Made(replace(self.list, rows=rows), self.source, tuple(unknown_items))


@dataclass(frozen=True, slots=True)
class Rendered:
    """A list's answer as it goes out, and what is counted of it.

    Bytes can be kept by the thousand: a model of pydantic is some seventy objects, over all of which every full
    collection of garbage walks.
    """

    body: bytes
    """JSON of `Recommendations`."""
    source: str
    kind: str

    @classmethod
    def of(cls, answer: Recommendations, k: int) -> Rendered:
        """The answer, cut to its first `k` items."""
        return cls(body_of(answer, k), answer.source, answer.kind)


def body_of(answer: Recommendations | SimilarItems, k: int) -> bytes:
    """JSON of the answer, cut to its first `k` items."""
    cut = answer if len(answer.items) <= k else answer.model_copy(update={"items": answer.items[:k]})
    return cut.model_dump_json().encode()


def recommendations(champion: Champion, user_id: str | None, state: UserState, made: Made) -> Recommendations:
    """The answer with the whole list."""
    fallback = None
    if made.list.kind != "personal":
        why = "none of the history's items is known to the model" if state.history else "no history is known"
        fallback = f"{why}: {FALLBACKS[made.list.kind]}"
    unknown = made.unknown_items
    if user_id is None:
        items = dict.fromkeys(event.item_id for event in state.history)
        unknown = tuple(item for item in items if not champion.live.known(item))
    return Recommendations(
        user_id=user_id,
        items=[
            Item(
                rank=row.rank,
                item_id=row.item_id,
                title=champion.live.title(row.item_id),
                score=row.score,
                reason=row.reason,
                components=row.components,
            )
            for row in made.list.rows
        ],
        kind=made.list.kind,
        fallback=fallback,
        source=made.source,
        events=state.events,
        unknown_items=list(unknown),
        model=made.list.model,
        publication=made.list.publication,
        as_of=time_text(champion.publication.as_of),
    )


def similar_items(champion: Champion, item_id: str, found: Sequence[tuple[str, float]]) -> SimilarItems:
    """The answer with the items found, best first."""
    return SimilarItems(
        item_id=item_id,
        items=[_similar(champion, rank, item, score) for rank, (item, score) in enumerate(found, 1)],
        fallback=None if found else "the model has no vectors of items",
        model=champion.publication.model,
        publication=champion.publication.number,
    )


def similar_or_popular(champion: Champion, item_id: str, made: StoredList) -> SimilarItems:
    """The answer for an item that the model does not know."""
    kind = made.kind if made.kind != "personal" else "popular"
    return SimilarItems(
        item_id=item_id,
        items=[_similar(champion, row.rank, row.item_id, row.score) for row in made.rows],
        fallback=f"the model does not know the item: {FALLBACKS[kind]}",
        model=champion.publication.model,
        publication=champion.publication.number,
    )


def time_text(seconds: float) -> str:
    """ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _similar(champion: Champion, rank: int, item_id: str, score: float) -> SimilarItem:
    return SimilarItem(rank=rank, item_id=item_id, title=champion.live.title(item_id), score=score)

"""What callers send and get: the bodies of requests and answers, with the examples that OpenAPI shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

EventType = Literal["other", "view", "click", "add_to_cart", "purchase", "search"]
"""Those of `events.types.EVENT_TYPES`; a test holds the two together."""
Kind = Literal["personal", "segment", "trending", "popular"]
MODEL = "recsys-fused-0f3a9c51b2d47e68"


def _printable(text: str) -> str:
    if not text.isprintable():  # control characters and lone surrogates, which no UTF-8 can hold
        raise ValueError("holds a character that cannot be printed")
    if not text.strip():
        raise ValueError("must not be empty")
    return text


Id = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
"""An id of the shop's: up to 200 printable characters."""


class Message(BaseModel):
    """A body; unknown fields of a request are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False)


class EventIn(Message):
    """Something that a user did with an item."""

    event_id: Id
    """Names the event: what is sent twice under one id counts once, so a request may be sent again."""
    user_id: Id
    item_id: Id
    event_type: EventType
    event_time: float | str | None = None
    """Seconds since 1970, or ISO 8601; now, where it is not given."""
    quantity: Annotated[float, Field(ge=0, le=1e9)] = 1.0
    price: Annotated[float, Field(ge=0, le=1e9)] | None = None
    order_id: Id | None = None


class SessionEvent(Message):
    """Something that a visitor without an account did."""

    item_id: Id
    event_type: EventType = "view"
    event_time: float | str | None = None
    """Seconds since 1970, or ISO 8601; without it the event is as old as its place says: just after the one before."""


class Events(Message):
    """Events to take in: all of them, or where one is not valid, none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {"event_id": "c-81", "user_id": "1", "item_id": "995242", "event_type": "click"},
                        {
                            "event_id": "o-7-1",
                            "user_id": "1",
                            "item_id": "1029743",
                            "event_type": "purchase",
                            "event_time": "2017-12-31T18:30:00Z",
                            "quantity": 2,
                            "price": 3.18,
                            "order_id": "o-7",
                        },
                    ]
                }
            ]
        }
    )
    events: list[EventIn]


class Session(Message):
    """A visitor's history, oldest event first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"events": [{"item_id": "995242"}, {"item_id": "1029743"}], "k": 5}]}
    )
    events: list[SessionEvent] = []
    k: Annotated[int, Field(ge=1)] | None = None
    """Length of the list; by default that of the published lists."""


class Item(Message):
    """An item of a list."""

    rank: int
    item_id: str
    title: str
    score: float
    """The fused score; larger is better, and only within a list."""
    reason: str
    components: dict[str, float]
    """Each recommender's part of the score."""


class Recommendations(Message):
    """A list, and how it came about."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "1",
                    "items": [
                        {
                            "rank": 1,
                            "item_id": "1082185",
                            "title": "BANANAS",
                            "score": 2.31,
                            "reason": "you buy this about every 6 days",
                            "components": {"repurchase": 1.9, "popularity": 0.41},
                        }
                    ],
                    "kind": "personal",
                    "fallback": None,
                    "source": "store",
                    "events": 218,
                    "unknown_items": [],
                    "model": MODEL,
                    "publication": 3,
                    "as_of": "2018-01-01T00:00:00Z",
                }
            ]
        }
    )
    user_id: str | None
    """None for a visitor."""
    items: list[Item]
    """Best first."""
    kind: Kind
    """For this history, or what all get of whom nothing is known."""
    fallback: str | None
    """Why it is not a personal list, in words; null where it is one."""
    source: Literal["store", "computed"]
    """As it was published or made by the stream, or made for this answer."""
    events: int
    """Events of the history that the list was made from."""
    unknown_items: list[str]
    """Items of the request that the model does not know."""
    model: str
    """Content of the model, as published rows name it."""
    publication: int
    as_of: str
    """End of the batch that it builds on, ISO 8601."""


class SimilarItem(Message):
    """An item that goes with another one."""

    rank: int
    item_id: str
    title: str
    score: float
    """Cosine of the two items' vectors; for a fallback the fused score."""


class SimilarItems(Message):
    """The items most like one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "item_id": "995242",
                    "items": [{"rank": 1, "item_id": "1029743", "title": "FLUID MILK WHITE ONLY", "score": 0.83}],
                    "fallback": None,
                    "model": MODEL,
                    "publication": 3,
                }
            ]
        }
    )
    item_id: str
    items: list[SimilarItem]
    fallback: str | None
    """Why these are not similar items, in words; null where they are."""
    model: str
    publication: int


class EventsTaken(Message):
    """What became of the events."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"accepted": 2, "duplicates": [], "unknown_items": ["31415"]}]}
    )
    accepted: int
    """Events that are new; they count from the next answer on."""
    duplicates: list[str]
    """Ids of events that were known already."""
    unknown_items: list[str]
    """Items that the model does not know: kept in the history, and without effect until a model knows them."""


class Health(Message):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(Message):
    """The service can answer."""

    status: Literal["ready"] = "ready"
    model: str
    publication: int


class Refusal(Message):
    """Why there is no answer."""

    detail: str


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the answers that refuse."""
    return {code: {"model": Refusal, "description": REASONS[code]} for code in codes}


REASONS = {
    400: "The body is no JSON",
    401: "No API key, or an unknown one",
    404: "No such path: an id is empty, or holds a line break",
    405: "Another method",
    408: "The body took too long",
    409: "Not while live events come another way",
    413: "The body is too large",
    422: "A value is not allowed",
    429: "Too many requests; Retry-After tells when to come back",
    503: "Not ready, or overloaded; Retry-After tells when to come back",
}

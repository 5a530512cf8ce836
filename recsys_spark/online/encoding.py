"""How histories, lists and vectors lie in a store: compressed columns, without pickle."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np
from safetensors.numpy import load, save

from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.online.history import batch_event_ids, extended
from recsys_spark.online.store import ListRow, Publication, StoredEvent, StoredList, StoreError, UserState, Vector

FORMAT = 1
"""Of everything here; a store keeps it, and is not opened under another one."""
_HEAD = struct.Struct("<IIQ")
"""Events n, bytes of the ids, events that were cut off before them."""
_CODES = {name: code for code, name in enumerate(EVENT_TYPES)}
USERS_AT_ONCE, BYTES_AT_ONCE = 500, 4 << 20
"""What one step of loading a publication writes, about: nobody else writes meanwhile."""
LARGEST = 64 << 20
"""Bytes of a row as it is used; the largest that this program writes are some hundred times smaller."""
FAST = 1
"""zlib's level: a history's columns shrink to a third, in less time than they are sent."""

Thing = TypeVar("Thing")
Row = tuple[int, bytes | None, bytes | None, bytes | None]
"""A user's index, history, list and vectors, packed; None for what is not there."""
Live = tuple[str, str, str, float]
"""A live event's id, item, type and time."""


@dataclass(frozen=True)
class PackedUser:
    """A user of a publication, or a part of one."""

    user_id: str
    row: Row

    @property
    def columns(self) -> tuple[str, int, bytes | None, bytes | None, bytes | None]:
        """All of it."""
        return (self.user_id, *self.row)

    @property
    def bytes(self) -> int:
        """How much it is."""
        return sum(len(part) for part in self.row[1:] if part is not None)


def packed_user(user: UserState, publication: Publication, max_history: int) -> PackedUser:
    """A user as a publication holds it, the history cut to `max_history`.

    Raises ValueError where the list is of another publication.
    """
    if user.list is not None and user.list.publication != publication.number:
        raise ValueError(f"the list of {user.user_id!r} is not of publication {publication.number}")
    cut = max(0, len(user.history) - max_history)
    history = packed_history(user.history[cut:], user.dropped + cut) if user.history else None
    stored = packed_list(user.list) if user.list is not None else None
    vectors = packed_vectors(user.vectors) if user.vectors else None
    return PackedUser(user.user_id, (user.user_index, history, stored, vectors))


def state_of(
    user_id: str, row: Row, live: Iterable[Live], publication: Publication | None, max_history: int
) -> UserState:
    """What a store knows of a user: the row of the publication that serves, and the live events in any order."""
    user_index, packed, stored, vectors = row
    history, dropped = unpacked_history(packed) if packed is not None else ((), 0)
    cut = max(0, len(history) - max_history)
    state = UserState(
        user_id=user_id,
        history=history[cut:],
        list=unpacked_list(stored, dropped + len(history)) if stored is not None else None,
        vectors=unpacked_vectors(vectors) if vectors is not None else {},
        dropped=dropped + cut,
        user_index=user_index,
    )
    weights = publication.event_weights if publication is not None else {}
    events = [StoredEvent(event, item, kind, weights.get(kind, 0.0), at) for event, item, kind, at in live]
    return extended(state, events, publication.as_of if publication is not None else 0.0, max_history)


def chunks(things: Sequence[Thing], size: int) -> Iterator[Sequence[Thing]]:
    """Portions of up to `size`."""
    for start in range(0, len(things), size):
        yield things[start : start + size]


def portions(users: Iterable[PackedUser]) -> Iterator[list[PackedUser]]:
    """The users as a store loads them: up to USERS_AT_ONCE, and some BYTES_AT_ONCE, at a time."""
    waiting: list[PackedUser] = []
    size = 0
    for user in users:
        waiting.append(user)
        size += user.bytes
        if size >= BYTES_AT_ONCE or len(waiting) >= USERS_AT_ONCE:
            yield waiting
            waiting, size = [], 0
    if waiting:
        yield waiting


def packed_history(history: Sequence[StoredEvent], dropped: int = 0) -> bytes:
    """Columns: times float64 [n], weights float32 [n], types uint8 [n], then item ids and event ids as JSON.

    A batch's event ids follow from their places, and are not written.
    """
    given = [event.event_id for event in history]
    placed = given == batch_event_ids(dropped, dropped + len(history))
    names = [[event.item_id for event in history], None if placed else given]
    ids = json.dumps(names, separators=(",", ":")).encode()
    columns = (
        np.array([event.event_time for event in history], dtype="<f8").tobytes(),
        np.array([event.weight for event in history], dtype="<f4").tobytes(),
        bytes(_CODES.get(event.event_type, 0) for event in history),
    )
    return zlib.compress(b"".join((_HEAD.pack(len(history), len(ids), dropped), *columns, ids)), FAST)


def unpacked_history(body: bytes) -> tuple[tuple[StoredEvent, ...], int]:
    """The history, and how many events were cut off before it."""
    content = _inflated(body)
    count, id_bytes, dropped = _HEAD.unpack_from(content)
    times = np.frombuffer(content, "<f8", count, _HEAD.size).tolist()
    weights = np.frombuffer(content, "<f4", count, _HEAD.size + 8 * count).tolist()
    types = content[_HEAD.size + 12 * count : _HEAD.size + 13 * count]
    items, given = json.loads(content[len(content) - id_bytes :])
    event_ids = given if given is not None else batch_event_ids(dropped, dropped + count)
    columns = zip(event_ids, items, map(EVENT_TYPES.__getitem__, types), weights, times, strict=True)
    return tuple(map(StoredEvent._make, columns)), dropped


def packed_list(stored: StoredList) -> bytes:
    """The list as compressed JSON; numbers keep every digit."""
    rows = [[row.item_id, row.score, row.reason, row.components, row.rank] for row in stored.rows]
    facts = [
        *(stored.model, stored.publication, stored.parameters, stored.events),
        *(stored.made_at, stored.source, stored.kind),
    ]
    return zlib.compress(json.dumps([facts, rows], separators=(",", ":")).encode(), FAST)


def unpacked_list(body: bytes, batch_events: int) -> StoredList:
    """The list; one that the batch made is of all `batch_events` that the batch has of the user."""
    (model, publication, parameters, events, made_at, source, kind), rows = json.loads(_inflated(body))
    found = tuple(ListRow(rank, item, score, reason, parts) for item, score, reason, parts, rank in rows)
    events = batch_events if source == "batch" else events
    return StoredList(found, model, publication, parameters, events, made_at, source, kind)


def _inflated(body: bytes) -> bytes:
    """What was compressed. Raises StoreError where it is damaged, or would fill the memory."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(body, LARGEST)
    except zlib.error:
        raise StoreError("online.store: holds a row that is damaged; publish again") from None
    if not inflater.eof:
        raise StoreError("online.store: holds a row that is damaged or far too large; publish again")
    return content


def packed_vectors(vectors: Mapping[str, Vector]) -> bytes:
    """The vectors by name, as safetensors of float32."""
    return bytes(save({name: np.ascontiguousarray(vector, dtype=np.float32) for name, vector in vectors.items()}))


def unpacked_vectors(body: bytes) -> dict[str, Vector]:
    """The vectors by name."""
    return dict(load(body))


def packed_publication(publication: Publication) -> str:
    """The publication as JSON."""
    content = {**asdict(replace(publication, event_weights={})), "event_weights": dict(publication.event_weights)}
    return json.dumps(content, sort_keys=True)


def unpacked_publication(body: str | bytes) -> Publication:
    """The publication."""
    return Publication(**json.loads(body))

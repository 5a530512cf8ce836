"""The rows of a bucket of users as arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from recsys_spark.events.types import EVENT_TYPES

SECOND = 1_000_000
"""Times are in microseconds."""
PURCHASE = EVENT_TYPES.index("purchase")
RETURN_TYPE = "return"
"""The event type of a return, beside purchases of negative quantity."""
RETURN = -1
"""Its code, since it is none of the types that recommenders know."""


@dataclass(frozen=True)
class Bucket:
    """All rows of some users, sorted by (user, time, file, order); arrays have one value a row, N of them."""

    users: NDArray[np.int64]
    """Codes that never decrease."""
    items: NDArray[np.int64]
    """Codes, none negative."""
    event_types: NDArray[np.int64]
    """Positions in EVENT_TYPES, or RETURN."""
    times: NDArray[np.int64]
    """Microseconds since 1970, within a user never decreasing."""
    days: NDArray[np.int32]
    """The event's date in days since 1970, within a user never decreasing."""
    arrivals: NDArray[np.int32]
    """The day of arrival in days since 1970."""
    quantity: NDArray[np.float64]
    """NaN where null."""
    price: NDArray[np.float64]
    """NaN where null."""

    def __len__(self) -> int:
        return len(self.users)

    def where(self, rows: NDArray[np.bool_]) -> Bucket:
        """The rows for which `rows` bool[N] is true, in their order."""
        if rows.all():
            return self
        return Bucket(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @property
    def returns(self) -> NDArray[np.bool_]:
        """bool[N]: events of type `return`, and purchases of negative quantity."""
        return (self.event_types == RETURN) | ((self.event_types == PURCHASE) & (self.quantity < 0))


def type_codes(names: list[str | None]) -> NDArray[np.int64]:
    """The code of each event type's name, 0 (`other`) for what is not known; for the few names of a dictionary."""
    known = {name: code for code, name in enumerate(EVENT_TYPES)} | {RETURN_TYPE: RETURN}
    return np.array([known.get(name or "", 0) for name in names], np.int64)


def starts(*keys: NDArray[np.integer]) -> NDArray[np.bool_]:
    """bool[N]: rows that differ from the row before in any of the keys."""
    first = np.ones(len(keys[0]), bool)
    if len(first) > 1:
        first[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return first


def combined(*keys: NDArray[np.integer]) -> NDArray[np.int64]:
    """int64[N]: one code for the rows' values of all keys, equal where they are all equal."""
    code = np.zeros(len(keys[0]), np.int64)
    size = 1
    for key in keys:
        low, high = (int(key.min()), int(key.max())) if len(key) else (0, 0)
        span = high - low + 1
        if size * span >= 2**62:
            code = np.unique(code, return_inverse=True)[1].astype(np.int64)
            size = int(code.max()) + 1
        if size * span >= 2**62:
            key = np.unique(key, return_inverse=True)[1]
            low, span = 0, int(key.max()) + 1
        code = code * span + (key.astype(np.int64) - low)
        size *= span
    return code

"""The sampled users: what they did before the test window and in it, and the lists that were measured for them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from recsys_spark.datasets.split import TEST
from recsys_spark.evaluation.report.content import FUSED, Bought, Listed, Past, SampledUser
from recsys_spark.evaluation.report.reading import Titles, read_titles, scanner
from recsys_spark.evaluation.sampling import smallest_hashes
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.recommenders.histories import HistoryBlock

HISTORY = ["user_index", "user_id", "items", "event_types", "weights", "times", "folds"]
SHOWN_EVENTS, SHOWN_RANKS = 10, 10
Reasons = Mapping[str, Mapping[tuple[str, str], str]]
"""Name of the lists to (user_id, item_id) to the reason."""


@dataclass(frozen=True)
class Sources:
    """Paths of the tables, and what counts."""

    histories: Path
    items: Path
    lists: Path
    """evaluation_recommendations."""
    targets: Sequence[str]
    """Names of the target events."""
    mode: str
    """The mode of the lists."""

    @property
    def codes(self) -> list[int]:
        """Codes of the target events."""
        return [code for code, name in enumerate(EVENT_TYPES) if name in self.targets]


def sampled_histories(sources: Sources, count: int) -> pa.Table:
    """Histories of `count` users by the hash of their id, in its order.

    They are drawn from those with a history and a target event in the test window, whom the metrics are about.
    """
    columns = ["user_id", "event_types", "folds"]
    batches = scanner(sources.histories, columns).to_batches()
    chosen = smallest_hashes((_tested(batch, sources.codes) for batch in batches), count)
    rows = scanner(sources.histories, HISTORY, ds.field("user_id").isin(pa.array(chosen, pa.string()))).to_table()
    place = {user: number for number, user in enumerate(rows["user_id"].to_pylist())}
    return rows.take(pa.array([place[user] for user in chosen], pa.int64()))


def _tested(batch: pa.RecordBatch, codes: Sequence[int]) -> Iterable[str]:
    """Ids of the batch's users with events before the test window and target events in it."""
    lengths = np.diff(batch["folds"].offsets.to_numpy())
    users = np.repeat(np.arange(batch.num_rows), lengths)
    folds, types = (batch[name].flatten().to_numpy(zero_copy_only=False) for name in ("folds", "event_types"))
    before = _any(users[folds < TEST], batch.num_rows)
    wanted = _any(users[(folds == TEST) & np.isin(types, codes)], batch.num_rows)
    return batch["user_id"].filter(pa.array(before & wanted)).to_pylist()


def _any(users: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.bool_]:
    return np.bincount(users, minlength=count) > 0


def sampled_users(sources: Sources, histories: pa.Table, reasons: Reasons, models: Sequence[str]) -> list[SampledUser]:
    """What is shown of the users of `histories`, in their order; `models` are the single recommenders, in order."""
    ids = histories["user_id"].to_pylist()
    rows = _listed_rows(sources, ids)
    block = HistoryBlock.from_arrow(histories)
    titles = read_titles(sources.items, (row["item_id"] for row in rows), np.unique(block.items).tolist())
    by_user: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_user[row["user_id"]].append(row)
    return [
        _user(user, Events.of(block, number, sources.codes), by_user[user], models, reasons, titles)
        for number, user in enumerate(ids)
    ]


@dataclass(frozen=True)
class Events:
    """One user's events, oldest first."""

    items: npt.NDArray[np.int64]
    types: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    before: npt.NDArray[np.bool_]
    """Was it before the test window."""
    target: npt.NDArray[np.bool_]
    """Is it a target event."""
    inside: npt.NDArray[np.bool_]
    """Was it in the test window."""

    @classmethod
    def of(cls, block: HistoryBlock, row: int, codes: Sequence[int]) -> Events:
        """The events of one row of the block."""
        own = block.users == row
        types, folds = block.event_types[own], block.folds[own]
        return cls(block.items[own], types, block.times[own], folds < TEST, np.isin(types, codes), folds == TEST)

    def past(self, titles: Titles) -> list[Past]:
        """The last distinct items before the test window, newest first."""
        items, types, times = (values[self.before][::-1] for values in (self.items, self.types, self.times))
        counts = Counter(items.tolist())
        places = np.sort(np.unique(items, return_index=True)[1])[:SHOWN_EVENTS].tolist()
        return [
            Past(
                day=f"{datetime.fromtimestamp(int(times[place]), UTC):%Y-%m-%d}",
                title=titles.name(int(items[place])),
                event_type=EVENT_TYPES[types[place]],
                times=counts[int(items[place])],
            )
            for place in places
        ]

    def bought(self, *, inside: bool) -> list[int]:
        """Distinct items of the target events in the test window or before it, oldest first."""
        return list(dict.fromkeys(self.items[self.target & (self.inside if inside else self.before)].tolist()))


def _listed_rows(sources: Sources, users: Sequence[str]) -> list[Mapping[str, Any]]:
    """Rows of the users' lists, in the order of their ranks."""
    where = ds.field("user_id").isin(pa.array(users, pa.string()))
    where &= (ds.field("repeats") == sources.mode) & (ds.field("rank") <= SHOWN_RANKS)
    columns = ["model", "user_id", "rank", "item_id", "score"]
    rows: list[Mapping[str, Any]] = scanner(sources.lists, columns, where).to_table().to_pylist()
    return sorted(rows, key=lambda row: (row["user_id"], row["model"], row["rank"]))


def _user(
    user: str,
    events: Events,
    rows: Sequence[Mapping[str, Any]],
    models: Sequence[str],
    reasons: Reasons,
    titles: Titles,
) -> SampledUser:
    before, inside = events.bought(inside=False), events.bought(inside=True)
    lists: dict[str, list[Listed]] = {name: [] for name in (FUSED, *models)}
    for row in rows:
        index = titles.indices.get(row["item_id"], -1)
        listed = Listed(
            rank=row["rank"],
            item_id=row["item_id"],
            title=titles.name(index) if index >= 0 else row["item_id"],
            score=row["score"],
            bought=index in inside,
            repeat=index in before,
            reason=reasons.get(row["model"], {}).get((user, row["item_id"]), ""),
        )
        lists.setdefault(row["model"], []).append(listed)
    ranks = {titles.indices.get(row["item_id"]): row["rank"] for row in rows if row["model"] == FUSED}
    return SampledUser(
        user_id=user,
        events=int(events.before.sum()),
        history=events.past(titles),
        bought=[Bought(title=titles.name(item), repeat=item in before, rank=ranks.get(item)) for item in inside],
        lists=lists,
    )

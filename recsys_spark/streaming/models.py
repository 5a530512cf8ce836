"""The model that makes lists: loaded once a content, and for large micro-batches run by Spark's tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from recsys_spark.fusion.model import FusedModel
from recsys_spark.online.encoding import (
    packed_history,
    packed_list,
    packed_vectors,
    unpacked_history,
    unpacked_list,
    unpacked_vectors,
)
from recsys_spark.online.live_model import LiveModel
from recsys_spark.online.overlay import Overlay
from recsys_spark.online.step import Made, Maker, make_here
from recsys_spark.online.store import Publication, UserState
from recsys_spark.scoring.shipping import ship
from recsys_spark.session import total_cores

STATES = pa.schema([("user_id", pa.string()), ("user_index", pa.int64()), ("history", pa.binary())])
MADE = "user_id string, list binary, vectors binary"
USERS_AT_ONCE = 256
"""Users whose states a task holds at once."""


class Models:
    """The newest model, kept while publications are of it."""

    def __init__(self) -> None:
        self._known: tuple[tuple[str, str], FusedModel] | None = None

    def load(self, publication: Publication) -> LiveModel:
        """The publication's model as it was published. Raises UserError where its files are gone or damaged."""
        named = (publication.model, publication.model_path)
        if self._known is not None and self._known[0] == named:
            return LiveModel(self._known[1], publication)
        live = LiveModel.load(publication)
        self._known = (named, live.champion)
        return live


def maker(spark: SparkSession, driver_users: int) -> Maker:
    """Makes lists on the driver for up to `driver_users` users, by Spark's tasks for more.

    Then the driver holds the batch's states and lists, as it does in any case: a micro-batch is bounded.
    """

    def make(live: LiveModel, states: Sequence[UserState]) -> Made:
        if len(states) <= driver_users:
            return make_here(live, states)
        return _made_by_tasks(spark, live, states)

    return make


def _made_by_tasks(spark: SparkSession, live: LiveModel, states: Sequence[UserState]) -> Made:
    publication, overlay = live.publication, live.overlay
    shipped = ship(spark, Path(publication.model_path))
    parameters, counts = overlay.to_bytes(), dict(overlay.counts)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        own = Overlay.of_store(publication.model, parameters, counts)
        there = LiveModel(shipped.load(), publication, own)
        for batch in batches:
            for start in range(0, batch.num_rows, USERS_AT_ONCE):
                some = [_state(row) for row in batch.slice(start, USERS_AT_ONCE).to_pylist()]
                lists, vectors = make_here(there, some)
                yield pa.RecordBatch.from_pydict(
                    {
                        "user_id": [state.user_id for state in some],
                        "list": [packed_list(made) for made in lists],
                        "vectors": [packed_vectors(found) for found in vectors],
                    }
                )

    told = pa.table(
        {
            "user_id": [state.user_id for state in states],
            "user_index": [state.user_index for state in states],
            "history": [packed_history(state.history, state.dropped) for state in states],
        },
        schema=STATES,
    )
    rows = spark.createDataFrame(told).repartition(2 * total_cores(spark), "user_id").mapInArrow(score, MADE).toArrow()
    found = {row["user_id"]: row for row in rows.to_pylist()}
    made = [found[state.user_id] for state in states]
    lists = [unpacked_list(row["list"], state.events) for row, state in zip(made, states, strict=True)]
    return lists, [unpacked_vectors(row["vectors"]) for row in made]


def _state(row: dict[str, Any]) -> UserState:
    history, dropped = unpacked_history(row["history"])
    return UserState(row["user_id"], history, dropped=dropped, user_index=row["user_index"])

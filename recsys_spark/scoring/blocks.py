"""Cutting a task's stream of histories into blocks of users whose scores fit into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import FusionSettings
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.recommenders.histories import HistoryBlock
from recsys_spark.session import total_cores


@dataclass(frozen=True)
class Moment:
    """The moment of recommendation: what of each history is known, and when it is."""

    folds: tuple[int, ...]
    """Folds that belong to the history."""
    now: int | None
    """Epoch seconds; None takes each user's newest known event (leave-one-out)."""


@dataclass(frozen=True)
class UserBlock:
    """A block of users: their ids, what the model sees of them, and all of their events."""

    user_ids: pa.Array
    batch: UserBatch
    events: HistoryBlock


def user_blocks(
    batches: Iterable[pa.RecordBatch],
    model: FusedModel,
    moment: Moment,
    block_bytes: int,
    tried: Sequence[FusionSettings] = (),
) -> Iterator[UserBlock]:
    """Blocks of users from a task's record batches of the `histories` table; `tried` are fused besides the model's."""
    step = model.users_in_block(block_bytes, tried)
    for record in batches:
        for start in range(0, record.num_rows, step):
            rows = record.slice(start, step)
            events = HistoryBlock.from_arrow(rows)
            batch = events.before(moment.folds, moment.now, model.vocabulary)
            yield UserBlock(rows.column("user_id"), batch, events)


def spread(spark: SparkSession, histories: DataFrame, tasks: int | None) -> DataFrame:
    """Histories in as many partitions as the pass shall have tasks.

    Partitions are of users, and each user costs the whole catalogue: adaptive execution, which counts bytes, would
    leave thousands of them in one task. An explicit number is not coalesced.
    """
    return histories.repartition(tasks or 2 * total_cores(spark), "user_index")

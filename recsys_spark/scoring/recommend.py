"""Explained lists for every user: what the `recommendations` table is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from recsys_spark.fusion.explain import ExplainedRows
from recsys_spark.fusion.settings import Repeats
from recsys_spark.recommenders.vocabulary import Vocabulary
from recsys_spark.scoring.blocks import Moment, UserBlock, user_blocks
from recsys_spark.scoring.shipping import ShippedModel

SCHEMA = "user_id string, rank int, item_id string, score float, reason string, components map<string,float>"
LOGGED = f"{SCHEMA}, propensity double"


def recommendation_rows(
    histories: DataFrame,
    model: ShippedModel,
    moment: Moment,
    k: int,
    repeats: Repeats,
    block_bytes: int,
    logged: bool = False,
) -> DataFrame:
    """Columns user_id, rank, item_id, score, reason, components: up to `k` rows a user, in one pass.

    `logged` adds the column propensity, which a model with business rules can tell.
    """

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        fused = model.load()
        for block in user_blocks(batches, fused, moment, block_bytes):
            yield _record(block, fused.recommend(block.batch, k, repeats), fused.vocabulary, logged)

    return histories.mapInArrow(score, LOGGED if logged else SCHEMA)


def _record(block: UserBlock, rows: ExplainedRows, vocabulary: Vocabulary, logged: bool) -> pa.RecordBatch:
    """The block's rows as Arrow columns; only the reasons were made one by one."""
    took_part = ~np.isnan(rows.parts)
    offsets = np.concatenate([[0], np.cumsum(took_part.sum(axis=1))]).astype(np.int32)
    names = np.array(rows.names)[np.nonzero(took_part)[1]]
    components = pa.MapArray.from_arrays(
        pa.array(offsets), pa.array(names, pa.string()), pa.array(rows.parts[took_part], pa.float32())
    )
    record = pa.RecordBatch.from_arrays(
        [
            block.user_ids.take(pa.array(rows.users)),
            pa.array(rows.ranks, pa.int32()),
            vocabulary.ids_of(rows.items),
            pa.array(rows.scores, pa.float32()),
            pa.array(rows.reasons, pa.string()),
            components,
        ],
        names=["user_id", "rank", "item_id", "score", "reason", "components"],
    )
    if not logged:
        return record
    assert rows.propensities is not None, "the model has rules"
    columns = [*record.columns, pa.array(rows.propensities, pa.float64())]
    return pa.RecordBatch.from_arrays(columns, names=[*record.schema.names, "propensity"])

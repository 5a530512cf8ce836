"""Lists of every recommender and of the fusion for the users of a fold: what the metrics are computed from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from torch import Tensor

from recsys_spark.fusion.explain import Ranked
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import FusionSettings, Repeats
from recsys_spark.scoring.blocks import Moment, UserBlock, user_blocks
from recsys_spark.scoring.shipping import ShippedModel

SCHEMA = "model string, repeats string, user_id string, rank int, item_id string, score float"


def evaluation_rows(
    histories: DataFrame,
    model: ShippedModel,
    moment: Moment,
    fusions: Mapping[str, Mapping[Repeats, FusionSettings]],
    modes: Sequence[Repeats],
    k: int,
    block_bytes: int,
    singles: bool = True,
    ruled: Mapping[str, str] | None = None,
) -> DataFrame:
    """Columns model, repeats, user_id, rank, item_id, score, for each mode of repeats.

    `fusions` names settings to try besides the recommenders themselves. Every recommender scores a user once, whatever
    the number of fusions and modes. A user whom a recommender cannot score gets no list from it. `ruled` names the
    fusions whose lists under the model's business rules are made too, each with the name of these lists.
    """

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        fused = model.load()
        tried = [setting for settings in fusions.values() for setting in settings.values()]
        for block in user_blocks(batches, fused, moment, block_bytes, tried):
            yield from _block_rows(block, fused, fusions, modes, k, singles, ruled or {})

    return histories.mapInArrow(score, SCHEMA)


def _block_rows(
    block: UserBlock,
    fused: FusedModel,
    fusions: Mapping[str, Mapping[Repeats, FusionSettings]],
    modes: Sequence[Repeats],
    k: int,
    singles: bool,
    ruled: Mapping[str, str],
) -> Iterator[pa.RecordBatch]:
    records: list[pa.RecordBatch] = []

    def observe(name: str, scores: Tensor, can_score: Tensor) -> None:
        for mode in modes:
            silent_score = fused.recommenders[name].silent_score
            ranked = fused.top(scores.clone(), block.batch, k, mode, silent_score)
            present = (ranked.items >= 0) & can_score[:, None]
            records.append(_record(name, mode, block, fused, ranked, present.numpy()))

    tried = [(name, mode) for name in fusions for mode in modes]
    settings = [fusions[name][mode] for name, mode in tried]
    blends = fused.blends(settings, block.batch, observe if singles else None)
    for (name, mode), result in zip(tried, blends, strict=True):
        silent_score = fused.silent_score(fusions[name][mode])
        if name in ruled:
            lists = fused.ruled(result.fused.clone(), block.batch, k, mode, silent_score)
            ranked = Ranked(lists.items, lists.scores)
            records.append(_record(ruled[name], mode, block, fused, ranked, (ranked.items >= 0).numpy()))
        ranked = fused.top(result.fused, block.batch, k, mode, silent_score)
        records.append(_record(name, mode, block, fused, ranked, (ranked.items >= 0).numpy()))
    yield from records


def _record(
    name: str, mode: Repeats, block: UserBlock, fused: FusedModel, ranked: Ranked, present: np.ndarray
) -> pa.RecordBatch:
    users, places = np.nonzero(present)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([name], pa.string()).take(pa.array(np.zeros(users.size, dtype=np.int32))),
            pa.array([mode], pa.string()).take(pa.array(np.zeros(users.size, dtype=np.int32))),
            block.user_ids.take(pa.array(users)),
            pa.array(places + 1, pa.int32()),
            fused.vocabulary.ids_of(ranked.items.numpy()[present]),
            pa.array(ranked.scores.numpy()[present], pa.float32()),
        ],
        names=["model", "repeats", "user_id", "rank", "item_id", "score"],
    )

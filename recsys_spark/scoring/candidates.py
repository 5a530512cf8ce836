"""The pass that fills the small table on which fusions are searched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyspark.sql import DataFrame

from recsys_spark.fusion.blend import blend
from recsys_spark.fusion.candidates import CandidateCollector, Candidates
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.normalise import RANK_DEPTH
from recsys_spark.fusion.search import TEMPERATURES
from recsys_spark.scoring.blocks import Moment, UserBlock, user_blocks
from recsys_spark.scoring.relevance import target_pairs
from recsys_spark.scoring.shipping import ShippedModel

SCHEMA = (
    "user_id string, items array<int>, scores array<float>, seen array<boolean>, relevant array<boolean>, "
    "relevant_count int, relevant_seen int, mean array<float>, deviation array<float>, log_sum_exp array<float>, "
    "can_score array<boolean>"
)


def candidate_rows(
    histories: DataFrame,
    model: ShippedModel,
    moment: Moment,
    fold: int,
    target_events: Sequence[str],
    count_unknown: bool,
    depth: int,
    block_bytes: int,
) -> DataFrame:
    """A row a user with relevant items in `fold`: the candidates, their scores [C, M] flat, and each list's statistics.

    `count_unknown` keeps relevant items outside the vocabulary as misses.
    """

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        fused = model.load()
        for block in user_blocks(batches, fused, moment, block_bytes):
            yield _block_rows(block, fused, fold, target_events, count_unknown, depth)

    return histories.mapInArrow(score, SCHEMA)


def _block_rows(
    block: UserBlock, fused: FusedModel, fold: int, target_events: Sequence[str], count_unknown: bool, depth: int
) -> pa.RecordBatch:
    rows, codes = fused.bought(block.batch)
    collector = CandidateCollector(max(depth, RANK_DEPTH), TEMPERATURES, (rows, codes))
    blend(fused.recommenders, [], block.batch, None, collector)
    unions = collector.union()
    padded = torch.zeros(len(unions), max(union.size for union in unions), dtype=torch.int64)
    for b, union in enumerate(unions):
        padded[b, : union.size] = torch.from_numpy(union)
    scores = np.stack([r.score_items(block.batch, padded).numpy() for r in fused.recommenders.values()], axis=2)
    seen = [codes[rows == b].numpy() for b in range(block.batch.size)]
    targets = target_pairs(block.events, fold, target_events)
    target_codes = fused.vocabulary.codes_of_indices(targets.items)
    known = target_codes >= 0
    counted = np.bincount(targets.users if count_unknown else targets.users[known], minlength=block.batch.size)
    records = []
    for b in np.nonzero(counted)[0].tolist():
        union, relevant = unions[b], target_codes[known & (targets.users == b)]
        records.append(
            {
                "user_id": block.user_ids[b].as_py(),
                "items": union.astype(np.int32),
                "scores": scores[b, : union.size].ravel(),
                "seen": np.isin(union, seen[b]),
                "relevant": np.isin(union, relevant),
                "relevant_count": int(counted[b]),
                "relevant_seen": int(np.isin(relevant, seen[b]).sum()),
                **_statistics(collector, fused, b),
                "can_score": [bool(collector.can_score[name][b]) for name in fused.recommenders],
            }
        )
    return pa.RecordBatch.from_pylist(records, schema=_arrow_schema())


def _statistics(collector: CandidateCollector, fused: FusedModel, row: int) -> dict[str, npt.NDArray[np.float32]]:
    """Mean, deviation and log-sum-exp of every component's list of one user, one after the other."""
    return {
        name: np.concatenate([np.ravel(collector.statistics[m][place][row].numpy()) for m in fused.recommenders])
        for place, name in enumerate(("mean", "deviation", "log_sum_exp"))
    }


def _arrow_schema() -> pa.Schema:
    floats, flags = pa.list_(pa.float32()), pa.list_(pa.bool_())
    return pa.schema(
        [
            ("user_id", pa.string()),
            ("items", pa.list_(pa.int32())),
            ("scores", floats),
            ("seen", flags),
            ("relevant", flags),
            ("relevant_count", pa.int32()),
            ("relevant_seen", pa.int32()),
            ("mean", floats),
            ("deviation", floats),
            ("log_sum_exp", floats),
            ("can_score", flags),
        ]
    )


def load_candidates(directory: Path, names: Sequence[str]) -> Candidates:
    """The written table as padded arrays; bounded by `fusion.search_users` rows."""
    table = pq.read_table(directory).sort_by("user_id")
    users, parts = table.num_rows, len(names)
    lengths = np.array([len(items) for items in table["items"]], dtype=np.int64)
    width = int(lengths.max(initial=1))
    inside = np.arange(width) < lengths[:, None]

    def padded(name: str, dtype: npt.DTypeLike) -> npt.NDArray[np.bool_]:
        out = np.zeros((users, width), dtype=dtype)
        out[inside] = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return out

    def matrix(name: str, *shape: int) -> npt.NDArray[np.float32]:
        flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(users, *shape)

    scores = np.zeros((users, width, parts), dtype=np.float32)
    scores[inside] = table["scores"].combine_chunks().flatten().to_numpy().reshape(-1, parts)
    return Candidates(
        names=tuple(names),
        scores=scores,
        present=inside,
        seen=padded("seen", bool),
        relevant=padded("relevant", bool),
        relevant_count=table["relevant_count"].to_numpy().astype(np.int64),
        relevant_seen=table["relevant_seen"].to_numpy().astype(np.int64),
        mean=matrix("mean", parts),
        deviation=matrix("deviation", parts),
        log_sum_exp=matrix("log_sum_exp", parts, len(TEMPERATURES)),
        can_score=matrix("can_score", parts).astype(bool),
    )

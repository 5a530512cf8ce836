"""The pass that fills the small table on which fusions are searched."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyspark.sql import DataFrame
from torch import Tensor

from recsys_spark.fusion.candidates import CandidateCollector, Candidates
from recsys_spark.fusion.cascade import candidate_statistics, log_sum_exp
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.normalise import RANK_DEPTH
from recsys_spark.fusion.retrieval import Proposals
from recsys_spark.fusion.search import TEMPERATURES
from recsys_spark.fusion.settings import Cascade
from recsys_spark.recommenders.batch import UserBatch
from recsys_spark.scoring.blocks import Moment, UserBlock, user_blocks
from recsys_spark.scoring.relevance import target_pairs
from recsys_spark.scoring.shipping import ShippedModel

SCHEMA = (
    "user_id string, items array<int>, scores array<float>, seen array<boolean>, relevant array<boolean>, "
    "relevant_count int, relevant_seen int, mean array<float>, deviation array<float>, log_sum_exp array<float>, "
    "can_score array<boolean>, events bigint, retrieve_seconds double, score_seconds double"
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
    cascade: Cascade | None = None,
) -> DataFrame:
    """A row a user with relevant items in `fold`: the candidates, their scores [C, M] flat, and each list's statistics.

    `count_unknown` keeps relevant items outside the vocabulary as misses. Under a `cascade` candidates are what it
    retrieves (`depth` is not read), statistics are over them, and the seconds of both stages are told for each user.
    """

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        fused = model.load()
        for block in user_blocks(batches, fused, moment, block_bytes):
            rows, codes = fused.bought(block.batch)
            if cascade is None:
                found = _of_all(block.batch, fused, max(depth, RANK_DEPTH), (rows, codes))
            else:
                found = _retrieved(block.batch, fused, cascade, (rows, codes))
            yield _block_rows(block, fused, fold, target_events, count_unknown, found)

    return histories.mapInArrow(score, SCHEMA)


@dataclass(frozen=True)
class _Found:
    """The candidates of a block of B users, and how M components score them."""

    unions: list[npt.NDArray[np.int64]]
    """Sorted codes of each user's candidates."""
    scores: npt.NDArray[np.float32]
    """[B, C, M]."""
    statistics: dict[str, npt.NDArray[np.float32]]
    """mean, deviation [B, M], log_sum_exp [B, M, T]."""
    can_score: npt.NDArray[np.bool_]
    """[B, M]."""
    seconds: tuple[float, float] = (0.0, 0.0)
    """A user's share of the time of retrieving and of scoring, in a cascade."""


def _of_all(batch: UserBatch, fused: FusedModel, depth: int, seen: tuple[Tensor, Tensor]) -> _Found:
    """Candidates are the union of all components' best items, statistics are over the catalogue."""
    collector = CandidateCollector(depth, TEMPERATURES, seen)
    fused.blends([], batch, collector)
    unions = collector.union()
    padded = torch.zeros(len(unions), max(union.size for union in unions), dtype=torch.int64)
    for b, union in enumerate(unions):
        padded[b, : union.size] = torch.from_numpy(union)
    scores = np.stack([r.score_items(batch, padded).numpy() for r in fused.recommenders.values()], axis=2)
    statistics = {
        name: np.stack([collector.statistics[m][place].numpy() for m in fused.recommenders], axis=1)
        for place, name in enumerate(("mean", "deviation", "log_sum_exp"))
    }
    can = np.stack([collector.can_score[name].numpy() for name in fused.recommenders], axis=1)
    return _Found(unions, scores, statistics, can)


def _retrieved(batch: UserBatch, fused: FusedModel, cascade: Cascade, seen: tuple[Tensor, Tensor]) -> _Found:
    """Candidates are what the cascade retrieves, statistics are over them."""
    started = time.monotonic()
    proposals = Proposals(cascade.candidates, seen, fused.num_items)
    for name in cascade.retrieve:
        result = fused.recommenders[name].score(batch)
        proposals.add(result.scores, result.can_score, fused.recommenders[name].silent_score)
    retrieved = proposals.union()
    present = retrieved.present_BC
    middle = time.monotonic()
    scored = [recommender.score_items(batch, retrieved.items_BC) for recommender in fused.recommenders.values()]
    seconds = ((middle - started) / batch.size, (time.monotonic() - middle) / batch.size)
    found: dict[str, list[Tensor]] = {"mean": [], "deviation": [], "log_sum_exp": []}
    for scores_BC in scored:
        mean, deviation = candidate_statistics(scores_BC, present)
        standard = (scores_BC - mean) / deviation
        sums = torch.cat([log_sum_exp(standard, present, temperature) for temperature in TEMPERATURES], dim=1)
        for values, made in zip(found.values(), (mean, deviation, sums), strict=True):
            values.append(made)
    can = torch.stack([recommender.can_score(batch) for recommender in fused.recommenders.values()], dim=1)
    return _Found(
        [items[inside].numpy() for items, inside in zip(retrieved.items_BC, present, strict=True)],
        torch.stack(scored, dim=2).numpy(),
        {name: torch.stack(values, dim=1).numpy() for name, values in found.items()},
        (can & present.any(dim=1, keepdim=True)).numpy(),
        seconds,
    )


def _block_rows(
    block: UserBlock, fused: FusedModel, fold: int, target_events: Sequence[str], count_unknown: bool, found: _Found
) -> pa.RecordBatch:
    rows, codes = fused.bought(block.batch)
    unions = found.unions
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
                "scores": found.scores[b, : union.size].ravel(),
                "seen": np.isin(union, seen[b]),
                "relevant": np.isin(union, relevant),
                "relevant_count": int(counted[b]),
                "relevant_seen": int(np.isin(relevant, seen[b]).sum()),
                **{name: values[b].ravel() for name, values in found.statistics.items()},
                "can_score": found.can_score[b],
                "events": int(block.batch.lengths[b]),
                "retrieve_seconds": found.seconds[0],
                "score_seconds": found.seconds[1],
            }
        )
    return pa.RecordBatch.from_pylist(records, schema=_arrow_schema())


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
            ("events", pa.int64()),
            ("retrieve_seconds", pa.float64()),
            ("score_seconds", pa.float64()),
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
        events=table["events"].to_numpy(),
    )


def stage_seconds(directory: Path) -> tuple[float, float]:
    """Seconds per 1,000 users that a cascade's two stages took, of the written table."""
    table = pq.read_table(directory, columns=["retrieve_seconds", "score_seconds"])
    retrieve, score = (1000 * float(np.mean(table[name].to_numpy())) for name in table.column_names)
    return retrieve, score

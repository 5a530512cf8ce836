"""The pass that fills the table on which the stacked fusion's trees are trained.

Legend: B users of a block, N candidates of all of them end to end, F features, K list length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from recsys_spark.fusion.features import feature_names
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.ranking_table import RankingTable
from recsys_spark.fusion.settings import FusionSettings, Repeats, Stack, average
from recsys_spark.fusion.stacked import CandidateFeatures, FeatureMaker
from recsys_spark.fusion.trees import Trees
from recsys_spark.scoring.blocks import Moment, UserBlock, user_blocks
from recsys_spark.scoring.own_moments import at_moments, draw_moments
from recsys_spark.scoring.relevance import target_pairs
from recsys_spark.scoring.shipping import ShippedModel

SCHEMA = (
    "user_id string, moment int, features array<float>, label array<boolean>, relevant array<boolean>, "
    "seen array<boolean>, relevant_count bigint, relevant_seen bigint, rival_allow double, rival_drop double"
)
COLUMNS = tuple(column.split(" ")[0] for column in SCHEMA.split(", "))
MODES: tuple[Repeats, ...] = ("allow", "drop")
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Question:
    """What is asked of each user of the window."""

    fold: int
    target_events: Sequence[str]
    count_unknown: bool
    """Keep relevant items outside the vocabulary as misses."""
    label_end: int | None
    """Epoch seconds before which relevant items make labels; None for all of the window."""
    k: int
    """The K of NDCG@K."""
    moment: int = 0
    """Which of the moments within the window it is: 0 for its start."""
    own: int = 0
    """At most so many moments of each user's own are asked besides; the first of them has number `own_from`."""
    own_from: int = 1
    seed: int = 0
    """Of the lots by which they are drawn."""


def stack_rows(
    histories: DataFrame,
    model: ShippedModel,
    moment: Moment,
    question: Question,
    rivals: Mapping[Repeats, FusionSettings] | None,
    depth: int,
    block_bytes: int,
) -> DataFrame:
    """A row a user with relevant items in the fold: candidates with features [C, F] flat, and the rivals' NDCG@K.

    The features see the histories of `moment`, at moments of users' own those up to these, and the model's item
    columns; nothing of the question. Without rivals, and at users' own moments, the rivals' NDCG is NaN.
    """

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        fused = model.load()
        as_large = replace(average(tuple(fused.recommenders)), stack=Stack(depth, "", Trees("")))
        for block in user_blocks(batches, fused, moment, block_bytes, [as_large, *(rivals or {}).values()]):
            yield _block_rows(block, fused, question, rivals, depth)
            for number, own in enumerate(_own_blocks(block, fused, question), start=question.own_from):
                yield _block_rows(own, fused, replace(question, moment=number), None, depth)

    return histories.mapInArrow(score, SCHEMA)


def _own_blocks(block: UserBlock, fused: FusedModel, question: Question) -> Iterator[UserBlock]:
    """The block's users at moments of their own, each at one of them at a time."""
    if question.own:
        drawn = draw_moments(
            block.events, question.fold, question.target_events, question.label_end, question.own, question.seed
        )
        for own in drawn:
            if len(own.rows):
                yield at_moments(block, own, question.fold, fused.vocabulary)


def _block_rows(
    block: UserBlock, fused: FusedModel, question: Question, rivals: Mapping[Repeats, FusionSettings] | None, depth: int
) -> pa.RecordBatch:
    batch, items = block.batch, fused.num_items
    assert fused.resources.columns is not None
    names = tuple(fused.recommenders)
    silent = {name: recommender.silent_score for name, recommender in fused.recommenders.items()}
    target = fused.resources.target(batch)
    maker = FeatureMaker(names, depth, fused.resources.columns, target, batch, silent)
    blends = fused.blends([rivals[mode] for mode in MODES], batch) if rivals else []
    for name, recommender in fused.recommenders.items():
        maker.take(name, recommender.form(batch))  # once more, in the very form in which it is served
    made = maker.made(fused.recommenders, batch)

    targets = target_pairs(block.events, question.fold, question.target_events)
    codes = fused.vocabulary.codes_of_indices(targets.items)
    relevant = targets.users[codes >= 0] * items + codes[codes >= 0]
    seen = np.unique((batch.users[target] * items + batch.items[target]).numpy())
    counted = targets.users if question.count_unknown else targets.users[codes >= 0]
    count = np.bincount(counted, minlength=batch.size)
    held = np.bincount(relevant[np.isin(relevant, seen)] // items, minlength=batch.size)
    worth = {mode: np.full(batch.size, np.nan) for mode in MODES}
    for mode, result in zip(MODES, blends, strict=False):
        assert rivals is not None
        ranked = fused.top(result.fused, batch, question.k, mode, fused.silent_score(rivals[mode])).items.numpy()
        hits = np.isin(np.arange(batch.size)[:, None] * items + ranked, relevant) & (ranked >= 0)
        worth[mode] = _ndcg(hits, count - (held if mode == "drop" else 0), question.k)
    present = made.retrieved.present_BC.numpy()
    users_N = np.nonzero(present)[0]
    keys_N = users_N * items + made.retrieved.items_BC.numpy()[present]
    flags = [np.isin(keys_N, wanted) for wanted in (_labels(block, fused, question), relevant, seen)]
    kept = count > 0
    of_moment = np.full(batch.size, question.moment, dtype=np.int32)
    return _record(block, made, users_N, flags, kept, of_moment, [count, held, worth["allow"], worth["drop"]])


def _labels(block: UserBlock, fused: FusedModel, question: Question) -> Ints:
    """Keys user x I + code of what makes labels."""
    events = block.events
    if question.label_end is not None:
        events = replace(events, folds=np.where(events.times < question.label_end, events.folds, -1))
    targets = target_pairs(events, question.fold, question.target_events)
    codes = fused.vocabulary.codes_of_indices(targets.items)
    return np.asarray(targets.users[codes >= 0] * fused.num_items + codes[codes >= 0])


def _ndcg(hits_BK: Flags, count_B: Ints, k: int) -> npt.NDArray[np.float64]:
    """[B] NDCG@K of lists; NaN for users with nothing relevant."""
    discounts = 1 / np.log2(np.arange(k) + 2)
    gains = (hits_BK * discounts[: hits_BK.shape[1]]).sum(axis=1)
    ideal = np.concatenate([[np.nan], np.cumsum(discounts)])[np.clip(count_B, 0, k)]
    return np.asarray(gains / ideal)


def _record(
    block: UserBlock,
    made: CandidateFeatures,
    users_N: Ints,
    flags: Sequence[Flags],
    kept_B: Flags,
    moment_B: npt.NDArray[np.int32],
    columns: Sequence[np.ndarray],
) -> pa.RecordBatch:
    lengths = np.bincount(users_N, minlength=len(kept_B))
    rows = kept_B[users_N]
    offsets = np.concatenate([[0], np.cumsum(lengths[kept_B])])
    wide = made.features_NF.numpy()[rows]
    ends = pa.array(offsets, pa.int32())
    lists = [
        pa.ListArray.from_arrays(pa.array(offsets * wide.shape[1], pa.int32()), pa.array(wide.ravel())),
        *(pa.ListArray.from_arrays(ends, pa.array(flag[rows])) for flag in flags),
    ]
    users = block.user_ids.filter(pa.array(kept_B))
    moments = pa.array(moment_B[kept_B])
    return pa.RecordBatch.from_arrays(
        [users, moments, *lists, *(pa.array(c[kept_B]) for c in columns)], names=list(COLUMNS)
    )


def load_stack(directory: Path, components: Sequence[str]) -> RankingTable:
    """The written table; bounded by `fusion.stacked.users` rows at each moment."""
    table = pq.read_table(directory).sort_by([("user_id", "ascending"), ("moment", "ascending")])
    names = feature_names(components)

    def flat(name: str) -> np.ndarray:
        # Chunk by chunk: together a list column may have more entries than its offsets can count.
        chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table[name].chunks]
        return np.concatenate([*chunks, np.empty(0, dtype=np.float32 if name == "features" else bool)])

    return RankingTable(
        names=names,
        features=flat("features").reshape(-1, len(names)),
        lengths=np.array([len(flags) for flags in table["label"]], dtype=np.int64),
        label=flat("label"),
        relevant=flat("relevant"),
        seen=flat("seen"),
        relevant_count=table["relevant_count"].to_numpy(),
        relevant_seen=table["relevant_seen"].to_numpy(),
        rivals={mode: table[f"rival_{mode}"].to_numpy() for mode in MODES},
        people=np.unique(table["user_id"].to_numpy().astype(str), return_inverse=True)[1],
        moments=table["moment"].to_numpy().astype(np.int64),
    )

"""The two passes over the events of build_datasets, and the writing of what they made.

1. `first_pass` reads four columns of clean_events, once: it writes the table histories and counts the items.
2. `second_pass` reads the histories, once for all fits and backtests: it makes the rows of every dataset. It cannot be
   part of the first, since the code of an item, whether it is cold, and how often it is drawn as a negative are known
   only when the items of all users have been counted. It reads about a third of the bytes that the first one reads.
3. `gathering.write_datasets` reads each row once more, as a row of a dataset: they are shuffled on purpose.

Nothing of this goes through a shuffle of Spark but the ids of users (one row a user) on their way to the buckets of
clean_events. What a task holds: the events of one bucket of users, or one row group; and arrays of the size of the
catalogue.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.datasets.cold import cold_folds, cold_targets, cold_users, find_cold
from recsys_spark.datasets.flat import FlatHistories
from recsys_spark.datasets.histories import bucket_histories, read_histories, write_histories
from recsys_spark.datasets.matrix import matrix_rows
from recsys_spark.datasets.negatives import draw_negatives
from recsys_spark.datasets.petastorm_writer import Rows, write_loose
from recsys_spark.datasets.recipe import MATRIX_NAME, SEQUENCES_NAME, VALID_NAME, Recipe
from recsys_spark.datasets.sequences import sequence_rows, valid_rows
from recsys_spark.datasets.split import Cuts, Plan
from recsys_spark.datasets.tasks import Told, Totals, run_tasks, tasks_for
from recsys_spark.datasets.vocabulary import count_items, vocabulary_codes, vocabulary_counts, write_vocabulary
from recsys_spark.events.layout import NAME, file_name
from recsys_spark.tables.location import spark_path


def bucketed_ids(user_ids: DataFrame, buckets: int, directory: Path) -> None:
    """Spread user_ids by the same hash into the same buckets as clean_events: a file a bucket, one row a user."""
    rows = user_ids.select("user_id", "user_index").repartition(buckets, "user_id")
    rows.write.parquet(spark_path(directory))


def _ids_of(directory: Path, bucket: int) -> pa.Table:
    """The ids of a bucket: Spark names a file by the number of its partition, and writes none for an empty one."""
    schema = pa.schema([pa.field("user_id", pa.string()), pa.field("user_index", pa.int32())])
    parts = [
        pq.ParquetFile(file).read(use_threads=False).cast(schema) for file in directory.glob(f"part-{bucket:05d}-*")
    ]
    return pa.concat_tables([schema.empty_table(), *parts]).combine_chunks()


def bucket_of(file: str) -> int:
    """The bucket of a file of clean_events or histories."""
    name = NAME.fullmatch(Path(file).name)
    assert name is not None, f"{file} is not named as events.layout has it"
    return int(name["bucket"])


def first_pass(
    spark: SparkSession,
    files: Sequence[Sequence[str]],
    user_ids: Path,
    item_ids: Path,
    event_weights: Mapping[str, float],
    origins: Sequence[Cuts],
    histories: Path,
    counts: Path,
) -> Totals:
    """Write the table histories, a file a bucket, and the counts of its items; tells of the folds of each origin.

    `files` are those of clean_events by bucket, `user_ids` a directory that `bucketed_ids` wrote.
    """
    weights = dict(event_weights)

    def bucket(part: int) -> Iterator[Told]:
        number = bucket_of(files[part][0])
        ids, flat = bucket_histories(files[part], item_ids, _ids_of(user_ids, number), weights, origins[0])
        if len(ids):
            write_histories(ids, flat, histories / file_name("all", number))
            yield from count_items(flat, origins, counts / f"{number}.parquet")

    size = sum(os.path.getsize(file) for part in files for file in part)
    return run_tasks(spark, bucket, len(files), tasks_for(spark, len(files), size))


def write_vocabularies(
    spark: SparkSession, plans: Sequence[Plan], counts: Path, items: Path, output: Path
) -> list[int]:
    """Write the vocabulary of each fit, a task each, and beside the counts the cold items; the numbers of items."""

    def vocabulary(part: int) -> Iterator[Told]:
        if part == len(plans):
            find_cold(counts, counts.parent / "cold.parquet")
            return
        plan = plans[part]
        target = output / plan.fit / "vocabulary.parquet"
        yield Told("items", part, write_vocabulary(counts, plan.origin, plan.folds, items, target))

    told = run_tasks(spark, vocabulary, len(plans) + 1)
    return [int(told["items", part]["rows"]) for part in range(len(plans))]


def second_pass(
    spark: SparkSession,
    histories: Sequence[str],
    plans: Sequence[Plan],
    recipe: Recipe,
    output: Path,
    scratch: Path,
    targets: Path | None,
) -> Totals:
    """Write the loose rows of every dataset below `scratch`, and the table cold_targets into `targets`.

    Tells under `<fit>/<dataset>` how many rows each row group gets, and under cold_targets how many users each fold
    has.
    """
    for plan in plans:
        for name in (MATRIX_NAME, SEQUENCES_NAME, VALID_NAME):
            (scratch / plan.fit / name).mkdir(parents=True)
    (scratch / "cold").mkdir()

    def bucket(part: int) -> Iterator[Told]:
        flat = read_histories(histories[part])
        number = bucket_of(histories[part])
        for plan in plans:
            base = flat.refolded(plan.cuts) if plan.origin else flat
            vocabulary = str(output / plan.fit / "vocabulary.parquet")
            for name, rows, groups in _rows_of(base, plan, recipe, vocabulary):
                sizes = write_loose(rows, groups, scratch / plan.fit / name / f"{number}.arrow")
                for group, size in enumerate(sizes.tolist()):
                    yield Told(f"{plan.fit}/{name}", group, size)
        if targets is not None:
            cold = cold_users(flat, cold_folds(str(scratch / "cold.parquet")), scratch / "cold" / f"{number}.parquet")
            path = targets / file_name("all", number)
            for fold, users in cold_targets(cold, recipe.target_types, histories[part], path).items():
                yield Told("cold_targets", fold, users)

    size = len(plans) * sum(os.path.getsize(file) for file in histories)
    return run_tasks(spark, bucket, len(histories), tasks_for(spark, len(histories), size))


def _rows_of(base: FlatHistories, plan: Plan, recipe: Recipe, vocabulary: str) -> Iterator[tuple[str, Rows, int]]:
    """The datasets' rows of a bucket of users, and into how many groups they are parted."""
    codes = vocabulary_codes(vocabulary)
    learnt = base.in_folds(plan.folds).coded(codes)
    yield (
        MATRIX_NAME,
        matrix_rows(learnt, recipe.seed, plan.cut_time, recipe.half_life_days),
        recipe.row_groups,
    )
    rows, users, windows = sequence_rows(learnt, recipe.max_length, recipe.max_windows, recipe.seed)
    if recipe.negatives:
        counts = vocabulary_counts(vocabulary)
        drawn = draw_negatives(recipe.seed, learnt, users, windows, counts, recipe.negative_power, recipe.negatives)
        rows = rows.with_columns(negatives=drawn)
    yield SEQUENCES_NAME, rows, recipe.row_groups
    if plan.validates:
        valid = base.coded(codes)
        yield (
            VALID_NAME,
            valid_rows(learnt, valid, recipe.target_types, recipe.max_length, recipe.valid_users, recipe.seed),
            1,
        )  # who is among the valid users is known when all have been seen

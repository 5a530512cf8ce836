"""The datasets' files, from the loose rows that the second pass wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from recsys_spark.datasets.cold import write_cold_items
from recsys_spark.datasets.matrix import MATRIX
from recsys_spark.datasets.petastorm_writer import KEY, by_hash, gather, read_loose, write_row_group
from recsys_spark.datasets.recipe import MATRIX_NAME, SEQUENCES_NAME, VALID_NAME, Recipe
from recsys_spark.datasets.sequences import VALID_USERS, gaps_and_sessions, sequences_schema
from recsys_spark.datasets.split import Plan
from recsys_spark.datasets.tasks import Told, Totals, run_tasks, tasks_for


def write_datasets(
    spark: SparkSession, plans: Sequence[Plan], recipe: Recipe, told: Totals, output: Path, scratch: Path
) -> dict[str, dict[str, int]]:
    """Write every row group of every dataset from the loose rows; the number of real rows by fit and dataset."""
    rows: dict[str, dict[str, int]] = {plan.fit: {} for plan in plans}
    work: list[tuple[str, str, int, int]] = []
    for plan in plans:
        for name in (MATRIX_NAME, SEQUENCES_NAME):
            sizes = [int(told[f"{plan.fit}/{name}", group]["rows"]) for group in range(recipe.row_groups)]
            rows[plan.fit][name] = sum(sizes)
            work += [(plan.fit, name, group, max(1, *sizes)) for group in range(recipe.row_groups)]
        if plan.validates:
            work.append((plan.fit, VALID_NAME, 0, 0))
    for fit, name in {(fit, name) for fit, name, _, _ in work}:
        (output / fit / name).mkdir()

    def part(number: int) -> Iterator[Told]:
        fit, name, group, size = work[number]
        files = sorted((scratch / fit / name).glob("*.arrow"))
        directory = output / fit / name
        derive = partial(gaps_and_sessions, session_gap=recipe.session_gap)
        if name == MATRIX_NAME:
            gather(files, group, MATRIX, {}, size, directory)
        elif name == SEQUENCES_NAME:
            gather(files, group, sequences_schema(recipe.negatives), recipe.lengths, size, directory, derive)
        else:
            yield Told(fit, 0, write_valid(files, recipe, directory))

    valid = run_tasks(spark, part, len(work), tasks_for(spark, len(work)))
    for plan in plans:
        if plan.validates:
            rows[plan.fit][VALID_NAME] = int(valid[plan.fit, 0]["rows"])
    return rows


def write_valid(files: Sequence[Path], recipe: Recipe, directory: Path) -> int:
    """Write the valid dataset of a fit from all loose files: the valid_users of the smallest hashes; their number.

    Holds twice as many rows as there may be valid users.
    """
    chosen = pa.Table.from_batches([read_loose(file, 0) for file in files[:1]])
    for file in files[1:]:
        both = pa.concat_tables([chosen, pa.Table.from_batches([read_loose(file, 0)])]).combine_chunks()
        chosen = both.take(pa.array(by_hash(both)[: recipe.valid_users]))
    groups = chosen[KEY].to_numpy() % recipe.row_groups
    size = max(1, *(int((groups == group).sum()) for group in range(recipe.row_groups)))
    derive = partial(gaps_and_sessions, session_gap=recipe.session_gap)
    for group in range(recipe.row_groups):
        own = chosen.filter(pa.array(groups == group))
        write_row_group(own, group, VALID_USERS, recipe.lengths, size, directory, derive)
    return len(chosen)


def cold_items(spark: SparkSession, scratch: Path, item_ids: Path, table: Path) -> dict[int, int]:
    """Write the table cold_items; how many there are of each fold."""

    def items(_: int) -> Iterator[Told]:
        users = sorted((scratch / "cold").glob("*.parquet"))
        path = table / "part-00000.parquet"
        for fold, rows in write_cold_items(scratch / "cold.parquet", users, item_ids, path).items():
            yield Told("cold_items", fold, rows)

    return {fold: int(row["rows"]) for (_, fold), row in run_tasks(spark, items, 1).items()}

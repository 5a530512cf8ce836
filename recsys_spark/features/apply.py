"""Fitted features applied to items and users in Spark; nothing is fitted here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType, _parse_datatype_string

from recsys_spark.datasets.flat import FlatHistories
from recsys_spark.events.catalogue import DESCRIBED
from recsys_spark.features.fitted import ITEM_COLUMNS, FittedFeatures, loaded
from recsys_spark.features.user_features import USER_COLUMNS, item_codes, user_rows
from recsys_spark.tables.files import new_file
from recsys_spark.tables.schemas import TABLES

ITEM_TABLES = ("item_features", "item_tokens", "item_keywords", "item_vectors")
A_DAY = 86_400
Batches = Iterable[pa.RecordBatch]


def apply_items(directory: Path, items: DataFrame, keep: Sequence[str] = ("item_id",)) -> DataFrame:
    """The `keep` columns of items, and ITEM_COLUMNS by the fitted features at `directory`.

    `items(item_id, title, description, category, brand, price)` may hold items that the fit never saw: unknown words
    are token 1, unknown categories and brands code 0, and their vector is that of their text alone.
    """
    schema = StructType([*items.select(*keep).schema, *_schema(ITEM_COLUMNS)])
    names, source = schema.names, str(directory.absolute())  # executors have their own working folder

    def describe(batches: Batches) -> Batches:
        fitted = loaded(source)
        for batch in batches:
            kept = [batch.column(name) for name in keep]
            yield pa.RecordBatch.from_arrays([*kept, *fitted.describe_items(batch).columns], names)

    return items.mapInArrow(describe, schema)


def write_items(items: DataFrame, directories: Sequence[Path], tables: Mapping[str, Path]) -> None:
    """Describe items by each of the fitted features and write the ITEM_TABLES into their folders, in one pass.

    `items` are those of `item_features.described_items`. Tasks write the files themselves: rows with vectors cost
    Spark more to carry than to compute.
    """
    schemas = {name: to_arrow_schema(TABLES[name].schema) for name in ITEM_TABLES}
    targets = {name: str(path.absolute()) for name, path in tables.items()}
    sources = [str(directory.absolute()) for directory in directories]

    def write(batches: Batches) -> Batches:
        task = TaskContext.get()
        assert task is not None
        fitted = [loaded(source) for source in sources]
        rows = 0
        with ExitStack() as open_:
            writers: dict[str, pq.ParquetWriter] = {}
            for batch in batches:
                for own in fitted:
                    described = _described(batch, own)
                    for name, schema in schemas.items():
                        if name not in writers:  # a task without items writes no file
                            path = Path(targets[name]) / f"part-{task.partitionId():05d}.parquet"
                            file = open_.enter_context(new_file(path))
                            writers[name] = open_.enter_context(pq.ParquetWriter(file, schema, compression="zstd"))
                        writers[name].write_table(described.select(schema.names).cast(schema))
                    rows += batch.num_rows
        yield pa.RecordBatch.from_pydict({"rows": pa.array([rows], pa.int64())})

    items.mapInArrow(write, "rows bigint").agg({"rows": "sum"}).collect()


def _described(batch: pa.RecordBatch, fitted: FittedFeatures) -> pa.Table:
    """All columns of the ITEM_TABLES for a batch of items."""
    fit = fitted.fit
    first, price = batch.column(f"first_{fit}"), batch.column(f"price_{fit}")
    texts = {name: batch.column(name) for name in ("item_id", *DESCRIBED)}
    features = fitted.describe_items(pa.RecordBatch.from_pydict({**texts, "price": price}))
    columns = {
        "fit": pa.array([fit] * batch.num_rows, pa.string()),
        "item_index": batch.column("item_index"),
        "item_id": batch.column("item_id"),
        "price": price,
        "first_seen": first.cast(pa.timestamp("s")).cast(pa.date32()),
        "age_days": pc.divide(pc.subtract(fitted.cut, first), A_DAY),
        "events": batch.column(f"events_{fit}"),
        "users": batch.column(f"users_{fit}"),
    }
    return pa.table({**columns, **dict(zip(features.schema.names, features.columns, strict=True))})


def apply_users(
    directories: Sequence[Path],
    histories: DataFrame,
    item_features: Path,
    cut: int | None = None,
    folds: Sequence[int] | None = None,
) -> DataFrame:
    """`fit` and USER_COLUMNS of the users of the histories table by each of the fitted features, in one pass.

    `item_features` is that table's folder. Users that the fit never saw are described like any other. By default the
    events of the fit's folds count, at its cut; for a later moment name both: events at or after `cut` are left out.
    """
    schema = StructType([*_schema("fit string"), *_schema(USER_COLUMNS)])
    codes_at, names = str(item_features.absolute()), schema.names
    sources = [str(directory.absolute()) for directory in directories]

    def describe(batches: Batches) -> Batches:
        for batch in FlatHistories.chunks(batches):
            flat = FlatHistories.from_batch(batch)
            for source in sources:
                fitted = loaded(source)
                own = flat.in_folds(fitted.folds if folds is None else folds)
                at = fitted.cut if cut is None else cut
                if cut is not None:
                    own = own.keep(own.times < cut)
                codes, top = item_codes(codes_at, fitted.fit), fitted.settings.user_categories
                rows = user_rows(batch.column("user_id"), own, at, codes, fitted.targets, top)
                fits = pa.array([fitted.fit] * rows.num_rows, pa.string())
                yield pa.RecordBatch.from_arrays([fits, *rows.columns], names)

    return histories.mapInArrow(describe, schema)


def _schema(columns: str) -> StructType:
    schema = _parse_datatype_string(columns)
    assert isinstance(schema, StructType)
    return schema

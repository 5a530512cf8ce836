"""What a fit is given, and the few ways in which it reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config import Config
from recsys_spark.datasets.vocabulary import vocabulary_codes
from recsys_spark.errors import UserError
from recsys_spark.tables.location import spark_path

if TYPE_CHECKING:
    from recsys_spark.fitting.start import Start

Facts: TypeAlias = dict[str, Any]
"""What a fit returns: JSON values, both frozen settings (`half_life_days`) and numbers (`neighbours`)."""


def _silent(*_: object) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class FitInputs:
    """One fit of one recommender: `fit(inputs)` writes the bundle `inputs.output` and returns its Facts."""

    spark: SparkSession
    """The session; the fit leaves no cached frame behind."""
    config: Config
    """The whole configuration."""
    name: str
    """The recommender's name, as in `config.models`."""
    fit: str
    """Which fit this is: select, test, publish, or backtest_<n>."""
    dataset: Path
    """The fit's dataset directory: vocabulary.parquet, matrix/, sequences/, dataset.json."""
    histories: DataFrame
    """The table `histories`: every event of every user; read it through `events()`, which keeps the fit's folds."""
    folds: tuple[int, ...]
    """The folds whose events the fit may see."""
    cut_time: int
    """End of these folds in epoch seconds, exclusive: ages are counted back from here."""
    output: Path
    """The bundle directory, to be created."""
    frozen: Mapping[str, Any] = field(default_factory=dict)
    """Facts of an earlier fit: settings that this one must take over. Empty for a fit that settles them by its own
    train or valid window: `select`, and the fit of a backtest from which a later one takes over."""
    starts: Sequence[Start] = ()
    """Fitted networks that a neural fit may start from, the best first; it takes the first that has its parts."""
    features: Path | None = None
    """The version directory of stage fit_features, where it was given."""
    cache: Path | None = None
    """A folder for what costs much and follows from its inputs alone, kept from run to run; else beside the bundle."""
    scratch: Path | None = None
    """A folder for what a later run of the same fit goes on from if this one dies; beside the bundle if not given."""
    progress: Callable[[str], None] = _silent
    """One log line."""
    metric: Callable[[str, float, int], None] = _silent
    """A point of a live curve: name, value, step."""

    @property
    def vocabulary(self) -> Path:
        """The vocabulary file: a row an item, ordered by code."""
        return self.dataset / "vocabulary.parquet"

    @cached_property
    def num_items(self) -> int:
        """Items of the vocabulary, I."""
        return int(json.loads((self.dataset / "dataset.json").read_text(encoding="utf-8"))["num_items"])

    def matrix(self) -> DataFrame:
        """The user-item matrix without filler rows: user_index, item (code), weight, count, last_time."""
        rows = self.spark.read.parquet(spark_path(self.dataset / "matrix")).where(F.col("row_weight") > 0)
        return rows.select("user_index", "item", "weight", "count", "last_time")

    def events(self) -> DataFrame:
        """Events of the fit's folds on items of its vocabulary: user_index, item (code), event_type, weight, time."""
        event = F.explode(F.arrays_zip("items", "event_types", "weights", "times", "folds")).alias("event")
        seen = self.histories.select("user_index", event).where(F.col("event.folds").isin(*self.folds))
        codes = self.spark.read.parquet(spark_path(self.vocabulary)).select("code", "item_index")
        return seen.join(F.broadcast(codes), on=F.col("event.items") == F.col("item_index"), how="inner").select(
            "user_index",
            F.col("code").alias("item"),
            F.col("event.event_types").alias("event_type"),
            F.col("event.weights").alias("weight"),
            F.col("event.times").alias("time"),
        )

    @contextmanager
    def streamed(self, frame: DataFrame) -> Iterator[Callable[[], Iterator[pa.RecordBatch]]]:
        """The rows of an item-sized frame, record batch by record batch, through Parquet files beside the bundle.

        Yields a function that starts a reading, so that the rows can be read more than once while Spark computes them
        once. The driver never holds more than one batch; the files are gone when the context ends.
        """
        scratch = self.output.with_name(f".{self.output.name}.rows")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            frame.write.parquet(spark_path(scratch))
            yield lambda: (
                batch
                for file in sorted(scratch.glob("part-*.parquet"))
                for batch in pq.ParquetFile(file).iter_batches(batch_size=1024)
            )
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def item_values(self, frame: DataFrame, *columns: str) -> tuple[NDArray[np.float64], ...]:
        """Columns of a frame with a row an item, each as an array [I] by code; 0 for items that have no row."""
        arrays = tuple(np.zeros(self.num_items, dtype=np.float64) for _ in columns)
        with self.streamed(frame.select("item", *columns)) as stream:
            for batch in stream():
                codes = batch.column("item").to_numpy()
                for array, column in zip(arrays, columns, strict=True):
                    array[codes] = batch.column(column).to_numpy()
        return arrays

    def item_table(self, name: str, *columns: str) -> Iterator[pa.RecordBatch]:
        """Rows of one of stage fit_features' tables for the items of the fit's vocabulary: code, *columns.

        Batch by batch, as this fit described them; items that the table lacks have no row. Raises UserError where the
        fit was given no features.
        """
        return coded_rows(self.described / name, self.fit, vocabulary_codes(str(self.vocabulary)), *columns)

    @property
    def described(self) -> Path:
        """The version directory of stage fit_features. Raises UserError where the fit was given none."""
        if self.features is None:
            raise UserError(f"models: {self.name} needs the features of items; run jobs/fit_features.py first")
        return self.features


def coded_rows(table: Path, fit: str, codes: NDArray[np.int32], *columns: str) -> Iterator[pa.RecordBatch]:
    """Rows of a table of stage fit_features as one of its fits described them, for the items that have a code.

    `codes` holds the code of each item_index, -1 for none. Yields code, *columns.
    """
    for file in sorted(table.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=8192, columns=["fit", "item_index", *columns]):
            index = batch.column("item_index").to_numpy()
            code = np.where(index < len(codes), codes[np.minimum(index, len(codes) - 1)], -1)
            own = pc.and_(pc.equal(batch.column("fit"), fit), pa.array(code >= 0))
            values = [pa.array(code), *(batch.column(column) for column in columns)]
            yield pa.RecordBatch.from_arrays(values, ["code", *columns]).filter(own)

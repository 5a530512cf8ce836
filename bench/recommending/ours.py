"""Our pass over users, in this process and inside Spark, and where its time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from bench.recommending.shop import NOW
from recsys_spark.fusion.blend import blend
from recsys_spark.fusion.model import FusedModel
from recsys_spark.fusion.settings import FusionSettings, Repeats, average
from recsys_spark.fusion.topk import stable_topk
from recsys_spark.recommenders.forms import Sums
from recsys_spark.scoring.blocks import Moment, UserBlock, spread, user_blocks
from recsys_spark.scoring.evaluate import evaluation_rows
from recsys_spark.scoring.memory import keep_freed_memory
from recsys_spark.scoring.recommend import recommendation_rows
from recsys_spark.scoring.shipping import ship

MOMENT = Moment((0,), NOW)
HISTORIES = "histories"
"""The part that reads histories and makes batches of them."""


class InProcess:
    """Lists by the product's own functions, block by block, with the threads of this process."""

    def __init__(self, model: FusedModel, histories: Path, block_bytes: int) -> None:
        self.model = model
        self._histories = histories
        self._block_bytes = block_bytes
        keep_freed_memory()  # as a task does

    def blocks(self) -> Iterator[UserBlock]:
        """Blocks of users as a task gets them."""
        return user_blocks(pq.ParquetFile(self._histories).iter_batches(10_000), self.model, MOMENT, self._block_bytes)

    def lists(self, names: Sequence[str], k: int) -> None:
        """Fused lists of all users by the named recommenders."""
        model, settings = self.model, average(names)
        for block in self.blocks():
            [made] = blend(model.recommenders, [settings], block.batch, model.fallback)
            model.top(made.fused, block.batch, k, "allow")

    def explained(self, k: int, left_out: int) -> None:
        """Lists with reasons and parts; `left_out` is `fusion.explain_items`, 0 leaves nothing out of a history."""
        for recommender in self.model.recommenders.values():
            recommender.left_out = left_out
        for block in self.blocks():
            self.model.recommend(block.batch, k, "allow")

    def seconds_by_part(self, names: Sequence[str], k: int) -> dict[str, float]:
        """Where the time goes: the same steps, one after the other, under a watch.

        `NAME: users` is what a recommender makes of the histories (for item-kNN and EASE their scores), `NAME: items`
        what it takes to know the moments of its rows; `sum` is all that goes over the catalogue, added up.
        """
        seconds: dict[str, float] = defaultdict(float)

        @contextmanager
        def watch(part: str) -> Iterator[None]:
            started = time.perf_counter()
            yield
            seconds[part] += time.perf_counter() - started

        blocks = self.blocks()
        while True:
            with watch(HISTORIES):
                block = next(blocks, None)
            if block is None:
                return dict(seconds)
            sums = Sums(block.batch.size, self.model.num_items)
            for name in names:
                with watch(f"{name}: users"):
                    form = self.model.recommenders[name].form(block.batch)
                with watch(f"{name}: items"):
                    mean, deviation = form.mean_and_deviation()
                    factors_B = form.can_score / deviation[:, 0]
                    form.add_to(sums, factors_B)
                    sums.add_offsets(-factors_B * mean[:, 0])
            with watch("sum"):
                fused_BI = sums.total()
            with watch("top k"):
                stable_topk(fused_BI, k)


class InSpark:
    """The passes of the jobs over the same histories."""

    def __init__(self, spark: SparkSession, model: Path, histories: Path, block_bytes: int) -> None:
        self._shipped = ship(spark, model)
        self._histories = spark.read.parquet(f"file://{histories}").persist()
        self._histories.count()
        self._block_bytes = block_bytes
        self._spark = spark

    def lists(self, names: Sequence[str], k: int) -> None:
        """Lists as evaluate_models makes those of a fusion, thrown away: user, rank, item, score."""
        fusions: dict[str, dict[Repeats, FusionSettings]] = {"fused": {"allow": average(names)}}
        rows = evaluation_rows(
            self._spread(), self._shipped, MOMENT, fusions, ["allow"], k, self._block_bytes, singles=False
        )
        _throw_away(rows)

    def explained(self, k: int) -> None:
        """Rows of the table `recommendations`, with reasons and parts, thrown away."""
        _throw_away(recommendation_rows(self._spread(), self._shipped, MOMENT, k, "allow", self._block_bytes))

    def free(self) -> None:
        """Give the memory back."""
        self._histories.unpersist()

    def _spread(self) -> DataFrame:
        return spread(self._spark, self._histories, None)


def _throw_away(rows: DataFrame) -> None:
    rows.write.format("noop").mode("overwrite").save()

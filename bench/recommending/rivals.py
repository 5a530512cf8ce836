"""Others that make the 100 best of every user from ready factors of users and items: Spark ML, implicit, plain torch.

They start where ours is half way: their users' vectors lie there, ours are computed from histories.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import SparkSession
from torch import Tensor


class PlainProduct:
    """The floor: the matrix product of a block of users, with torch.topk or without, into memory that is used again."""

    def __init__(self, users: int, items: int, width: int, block: int = 256) -> None:
        generator = torch.Generator().manual_seed(0)
        self.users_UD = torch.randn(users, width, generator=generator)
        self.items_DI = torch.randn(items, width, generator=generator).T
        self._block = block
        self._scores = torch.empty(min(block, users), items)

    def product(self) -> None:
        """The scores of all users."""
        for start in range(0, len(self.users_UD), self._block):
            self._multiplied(start)

    def lists(self, k: int) -> None:
        """Their lists."""
        for start in range(0, len(self.users_UD), self._block):
            torch.topk(self._multiplied(start), k, dim=1)

    def _multiplied(self, start: int) -> Tensor:
        users_BD = self.users_UD[start : start + self._block]
        return torch.mm(users_BD, self.items_DI, out=self._scores[: len(users_BD)])


class Implicit:
    """implicit's ALS model, batch recommend with all threads."""

    def __init__(self, users_UD: Tensor, items_DI: Tensor, threads: int) -> None:
        import implicit.cpu.als  # of the extra `bench`

        model = implicit.cpu.als.AlternatingLeastSquares(factors=users_UD.shape[1], num_threads=threads)
        model.user_factors = users_UD.numpy()
        model.item_factors = np.ascontiguousarray(items_DI.T.numpy())
        self._model = model
        self._users = np.arange(len(users_UD))

    def lists(self, k: int, users_at_once: int = 1000) -> None:
        """As its documentation shows it: batches of 1,000 users."""
        for start in range(0, self._users.size, users_at_once):
            users = self._users[start : start + users_at_once]
            self._model.recommend(users, None, N=k, filter_already_liked_items=False)


class SparkALS:
    """Spark ML's ALSModel.recommendForUserSubset, which is recommendForAllUsers where the subset is everyone."""

    def __init__(self, spark: SparkSession, users_UD: Tensor, items_DI: Tensor, folder: Path) -> None:
        frames = []
        for name, factors in (("users", users_UD), ("items", items_DI.T)):
            path = folder / f"{name}-{factors.shape[1]}.parquet"
            _write_factors(path, factors)
            frames.append(spark.read.parquet(f"file://{path}").repartition(2 * spark.sparkContext.defaultParallelism))
            frames[-1].persist().count()
        assert spark._jvm is not None
        made = spark._jvm.org.apache.spark.ml.recommendation.ALSModel(
            "bench", users_UD.shape[1], frames[0]._jdf, frames[1]._jdf
        )
        self._frames = frames
        self._model = ALSModel(made.setUserCol("user").setItemCol("item"))
        self._users = frames[0].withColumnRenamed("id", "user").select("user").persist()
        self._users.count()

    def lists(self, k: int) -> None:
        """Lists of all users, made and thrown away."""
        self._model.recommendForAllUsers(k).write.format("noop").mode("overwrite").save()

    def free(self) -> None:
        """Give the memory back."""
        for frame in (*self._frames, self._users):
            frame.unpersist()


def _write_factors(path: Path, factors: Tensor) -> None:
    flat = pa.array(np.ascontiguousarray(factors.numpy()).ravel(), pa.float32())
    offsets = pa.array(np.arange(0, factors.numel() + 1, factors.shape[1]), pa.int32())
    ids = pa.array(np.arange(len(factors)), pa.int32())
    pq.write_table(pa.table({"id": ids, "features": pa.ListArray.from_arrays(offsets, flat)}), path)

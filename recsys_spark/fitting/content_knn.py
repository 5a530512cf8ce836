"""Content-kNN: the nearest neighbours of each item by the TF-IDF of its words, multiplied out by Spark in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.fitting.cooccurrence import Rows, blocks_for, map_blocks, user_rows
from recsys_spark.fitting.inputs import Facts, FitInputs
from recsys_spark.fitting.neighbours import NEIGHBOUR_SCHEMA, assemble, nearest
from recsys_spark.recommenders.content_items import ContentItems
from recsys_spark.tables.location import spark_path
from recsys_spark.tables.schemas import TABLES


def fit(inputs: FitInputs) -> Facts:
    """Find every item's `neighbours` nearest neighbours by text and write the bundle.

    The similarity is the product of the items' TF-IDF vectors of length one, without the words of more than
    `max_word_items` items.
    The products are those of item-kNN with words in the place of users. The driver holds the result alone, 8 bytes a
    neighbour and 4 a keyword; a task holds the words of one block of items, with all the items that have them.
    """
    settings = inputs.config.recommenders.content_knn
    keywords, text = _keywords(inputs)
    rows = _word_rows(inputs).persist(StorageLevel.MEMORY_AND_DISK)
    size = F.size("items").cast("bigint")
    try:
        row = rows.agg(F.count(F.lit(1)).alias("words"), F.sum(size * size).alias("products")).first()
        words, products = (row["words"], row["products"] or 0) if row is not None else (0, 0)
        num_blocks = blocks_for(products, inputs.spark.sparkContext.defaultParallelism)
        inputs.progress(f"{inputs.name}: {words:,} words, {products:,} products in {num_blocks} blocks")

        def of_block(block: int, part: Rows) -> pa.Table:
            return nearest(part, num_blocks, block, settings.neighbours)

        indptr, neighbours, similarities = assemble(inputs, map_blocks(rows, num_blocks, of_block, NEIGHBOUR_SCHEMA))
    finally:
        rows.unpersist()
    recommender = ContentItems(inputs.name, indptr, neighbours, similarities, settings.half_life_days, keywords, text)
    recommender.save(inputs.output, inputs.vocabulary)
    return {"neighbours": int(neighbours.numel()), "described_items": int((indptr.diff() > 0).sum())}


def _word_rows(inputs: FitInputs) -> DataFrame:
    """Each word's items, as the rows that `map_blocks` takes: user_index (the word), items, weights."""
    word = F.explode(F.arrays_zip("tfidf_tokens", "tfidf_weights")).alias("word")
    entries = _described(inputs, "item_keywords", "tfidf_tokens", "tfidf_weights").select("item", word)
    flat = entries.select(
        F.col("word.tfidf_tokens").alias("user_index"), "item", F.col("word.tfidf_weights").alias("weight")
    )
    most = inputs.config.recommenders.content_knn.max_word_items
    common = flat.groupBy("user_index").count().where(F.col("count") > most).select("user_index")
    return user_rows(flat.join(F.broadcast(common), on="user_index", how="left_anti"))


def _keywords(inputs: FitInputs) -> tuple[torch.Tensor, torch.Tensor]:
    """The places [I, W] of the items' keywords among all keywords in order, and these as bytes, a line each."""
    width = inputs.config.recommenders.content_knn.keywords
    keywords = np.full((inputs.num_items, width), -1, dtype=np.int32)
    words = sorted({word for _, own in _strongest(inputs, width) for word in own})
    places = {word: place for place, word in enumerate(words)}
    for code, own in _strongest(inputs, width):
        keywords[code, : len(own)] = [places[word] for word in own]
    text = np.frombuffer("\n".join(words).encode(), dtype=np.uint8)
    return torch.from_numpy(keywords), torch.from_numpy(text.copy())


def _strongest(inputs: FitInputs, width: int) -> Iterator[tuple[int, list[str]]]:
    """(code, its first `width` keywords) of each described item."""
    for batch in inputs.item_table("item_keywords", "keywords"):
        for code, keywords in zip(batch.column("code").to_pylist(), batch.column("keywords").to_pylist(), strict=True):
            yield code, keywords[:width]


def _described(inputs: FitInputs, table: str, *columns: str) -> DataFrame:
    """`inputs.item_table` as a frame: item (code), *columns."""
    path = spark_path(inputs.described / table)
    rows = inputs.spark.read.schema(TABLES[table].schema).parquet(path).where(F.col("fit") == inputs.fit)
    codes = inputs.spark.read.parquet(spark_path(inputs.vocabulary)).select("code", "item_index")
    joined = rows.select("item_index", *columns).join(F.broadcast(codes), on="item_index", how="inner")
    return joined.select(F.col("code").alias("item"), *columns)

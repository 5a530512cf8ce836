"""The catalogue: what the shop says of its items."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType

from recsys_spark.config.cleaning import Cleaning
from recsys_spark.config.sources import Catalog
from recsys_spark.events.columns import plain_number, plain_text
from recsys_spark.events.rows import CORRUPT, FILE, ORDER, find_column, own_columns, quoted
from recsys_spark.events.rules.content import TEXTS as DESCRIBED
from recsys_spark.events.rules.content import blocked_items, without_blocked
from recsys_spark.events.rules.spelling import spelled
from recsys_spark.events.sources import read_source

CATALOGUE = "item_id string, title string, description string, category string, brand string, price double"
SHOWN_TITLES = 10
"""Titles of an item that the report of conflicts names."""


def read_catalog(spark: SparkSession, catalog: Catalog | None, cleaning: Cleaning | None = None) -> DataFrame:
    """One row an item: item_id, title, description, category and brand, trimmed, null where empty, and its price.

    Of several rows of an item one counts, by `cleaning.catalog_conflicts`, and blocked items are left out. Without a
    catalogue there are no rows.
    """
    cleaning = cleaning or Cleaning()
    if catalog is None:
        return spark.createDataFrame([], CATALOGUE)
    rows = catalogue_rows(spark, catalog, cleaning)
    return without_blocked(one_row_an_item(rows, cleaning), blocked_items(spark, cleaning, rows))


def catalogue_rows(spark: SparkSession, catalog: Catalog | None, cleaning: Cleaning | None = None) -> DataFrame:
    """Every row of the catalogue as the columns of CATALOGUE, and FILE and ORDER; item ids in the configured spelling.

    A price that is no finite number is null. Rows that do not fit the format or have no item_id are left out.
    """
    cleaning = cleaning or Cleaning()
    if catalog is None:
        return spark.createDataFrame([], f"{CATALOGUE}, {FILE} string, {ORDER} bigint")
    raw = read_source(spark, catalog, key="catalog").frame
    if CORRUPT in raw.columns:
        raw = raw.where(F.col(CORRUPT).isNull())
    available = own_columns(raw)
    types = {field.name: field.dataType for field in raw.schema}

    def mapped(name: str, type_: str, plain: Callable[[Column, DataType], Column]) -> Column:
        column = find_column(available, catalog.columns[name]) if name in catalog.columns else None
        return F.lit(None).cast(type_) if column is None else plain(quoted(column), types[column])

    return raw.select(
        spelled(mapped("item_id", "string", plain_text), cleaning.item_ids).alias("item_id"),
        *[readable(mapped(name, "string", plain_text)).alias(name) for name in DESCRIBED],
        mapped("price", "double", plain_number).alias("price"),
        FILE,
        ORDER,
    ).where(F.col("item_id").isNotNull())


def one_row_an_item(rows: DataFrame, cleaning: Cleaning) -> DataFrame:
    """The row that counts of each item's catalogue rows, as the columns of CATALOGUE.

    By `cleaning.catalog_conflicts` the first or last by (file, order), or the first of those with the title that most
    of them have; of titles that equally many have, the one that comes first; a title before none.
    """
    content = F.struct(*DESCRIBED, "price").alias("content")
    place = F.struct(FILE, ORDER)
    if cleaning.catalog_conflicts == "most_frequent":
        titles = rows.groupBy("item_id", "title").agg(
            F.min_by(content, place).alias("content"), F.min(place).alias("place"), F.count(F.lit(1)).alias("count")
        )
        rank = F.struct(F.col("title").isNull(), -F.col("count"), F.col("place"))
        chosen = titles.groupBy("item_id").agg(F.min_by("content", rank).alias("content"))
    else:
        by = F.max_by if cleaning.catalog_conflicts == "last" else F.min_by
        chosen = rows.groupBy("item_id").agg(by(content, place).alias("content"))
    return chosen.select("item_id", "content.*")


def catalog_conflicts(rows: DataFrame) -> DataFrame:
    """The items of `rows(item_id, title)` that have several titles: `item_id, titles array<string>`, at most ten."""
    titles = rows.where(F.col("title").isNotNull()).select("item_id", "title").distinct()
    together = titles.groupBy("item_id").agg(F.sort_array(F.collect_list("title")).alias("titles"))
    several = together.where(F.size("titles") > 1)
    return several.select("item_id", F.slice("titles", 1, SHOWN_TITLES).alias("titles"))


def readable(text: Column) -> Column:
    """Trimmed, with each run of blanks and line ends as one blank; null where nothing is left."""
    return F.nullif(F.trim(F.regexp_replace(text, r"\s+", " ")), F.lit(""))

"""The items, with what the catalogue says of them."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType

from recsys_spark.config.sections import Catalog
from recsys_spark.events.columns import plain_number, plain_text
from recsys_spark.events.rows import CORRUPT, FILE, ORDER, find_column, own_columns, quoted
from recsys_spark.events.sources import read_source

DESCRIBED = ("title", "description", "category", "brand")
CATALOGUE = "item_id string, title string, description string, category string, brand string, price double"


def read_catalog(spark: SparkSession, catalog: Catalog | None) -> DataFrame:
    """One row an item: item_id, title, description, category and brand, trimmed, null where empty, and its price.

    A price that is no finite number is null. Of several rows of an item the first by (file, order) counts; rows that do
    not fit the format or have no item_id are left out. Without a catalogue there are no rows.
    """
    if catalog is None:
        return spark.createDataFrame([], CATALOGUE)
    raw = read_source(spark, catalog, key="catalog")
    if CORRUPT in raw.columns:
        raw = raw.where(F.col(CORRUPT).isNull())
    available = own_columns(raw)
    types = {field.name: field.dataType for field in raw.schema}

    def mapped(name: str, type_: str, plain: Callable[[Column, DataType], Column]) -> Column:
        column = find_column(available, catalog.columns[name]) if name in catalog.columns else None
        return F.lit(None).cast(type_) if column is None else plain(quoted(column), types[column])

    rows = raw.select("*", mapped("item_id", "string", plain_text).alias("_id")).where(F.col("_id").isNotNull())
    texts = [readable(mapped(name, "string", plain_text)).alias(name) for name in DESCRIBED]
    content = F.struct(*texts, mapped("price", "double", plain_number).alias("price"))
    first = F.min_by(content, F.struct(F.col(FILE), F.col(ORDER)))
    return rows.groupBy("_id").agg(first.alias("_first")).select(F.col("_id").alias("item_id"), "_first.*")


def readable(text: Column) -> Column:
    """Trimmed, with each run of blanks and line ends as one blank; null where nothing is left."""
    return F.nullif(F.trim(F.regexp_replace(text, r"\s+", " ")), F.lit(""))


def describe(items: DataFrame, catalogue: DataFrame) -> DataFrame:
    """The items table: items with events or in the catalogue; the title is the item_id where there is none.

    `items(item_id, item_index, first_seen)`: an id that neither the logs nor the catalogue name any more is left out.
    """
    return (
        items.join(catalogue.withColumn("_catalogued", F.lit(True)), on="item_id", how="left")
        .where(F.col("first_seen").isNotNull() | F.col("_catalogued"))
        .select(
            "item_index",
            "item_id",
            F.coalesce("title", "item_id").alias("title"),
            "description",
            "category",
            "brand",
            "price",
            "first_seen",
        )
    )

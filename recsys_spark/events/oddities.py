"""What is odd in the data though no row is to blame: for the quality report."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import DataFrame

from recsys_spark.events.catalogue import catalog_conflicts, catalogue_rows
from recsys_spark.events.report.report import SHOWN_EXAMPLES, Oddities
from recsys_spark.events.rules.spelling import spelling_collisions
from recsys_spark.pipeline.stage import StageContext
from recsys_spark.tables.location import spark_path


def distinct_items(context: StageContext, items: Path) -> int:
    """Distinct items, from those that each bucket met."""
    met = _met(context, items)
    return 0 if met is None else met.distinct().count()


def spelling_oddities(context: StageContext, items: Path) -> Oddities:
    """Ids that differ from another by case and blanks alone, in the spelling that the rules left them."""
    met = _met(context, items)
    if met is None:
        return Oddities()
    return _oddities(spelling_collisions(met), "spellings")


def catalogue_oddities(context: StageContext) -> Oddities:
    """Items of which the catalogue gives several titles."""
    config = context.config
    if config.catalog is None:
        return Oddities()
    rows = catalogue_rows(context.spark, config.catalog, config.cleaning)
    return _oddities(catalog_conflicts(rows), "titles", "item_id")


def _met(context: StageContext, items: Path) -> DataFrame | None:
    if not items.is_dir() or not any(items.iterdir()):
        return None
    return context.spark.read.schema("item_id string").parquet(spark_path(items))


def _oddities(found: DataFrame, values: str, *name: str) -> Oddities:
    """How many there are, and a few of them."""
    shown = found.orderBy(values).limit(SHOWN_EXAMPLES).collect()
    count = len(shown) if len(shown) < SHOWN_EXAMPLES else found.count()
    examples = [": ".join([*(row[each] for each in name), " | ".join(row[values])]) for row in shown]
    return Oddities(count, examples)

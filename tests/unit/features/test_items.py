from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.cleaning import Cleaning
from recsys_spark.config.sources import Catalog
from recsys_spark.events.catalogue import catalog_conflicts, catalogue_rows, read_catalog

LINES = [
    "id,name,maker,cost",
    "x1,Cup,,3",
    "X1,Mug,Potter,4",
    "x 1,Mug,Smith,5",
    "x1,,Nobody,",
    "y2,Gun,,7",
    "z3,  Tea   pot ,,-",
    ",Orphan,,1",
]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    (tmp_path / "items.csv").write_text("\n".join(LINES) + "\n")
    return Catalog(
        format="csv",
        path=f"{tmp_path}/items.csv",
        options={"header": "true"},
        columns={"item_id": "id", "title": "name", "brand": "maker", "price": "cost"},
    )


ONE_SPELLING = {"item_ids": {"case": "upper", "blanks": "remove"}}


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        ("first", ("Cup", None, 3.0)),
        ("last", (None, "Nobody", None)),
        ("most_frequent", ("Mug", "Potter", 4.0)),
    ],
)
def test_of_several_rows_of_an_item_the_configured_one_counts(
    spark: SparkSession, catalog: Catalog, rule: str, chosen: tuple[str | None, str | None, float | None]
) -> None:
    cleaning = Cleaning.model_validate({**ONE_SPELLING, "catalog_conflicts": rule, "forbidden_text": ["^Gun$"]})
    found = read_catalog(spark, catalog, cleaning)
    assert found.columns == ["item_id", "title", "description", "category", "brand", "price"]
    rows = {row["item_id"]: (row["title"], row["brand"], row["price"]) for row in found.collect()}
    assert rows == {"X1": chosen, "Z3": ("Tea pot", None, None)}


def test_without_rules_ids_stay_as_they_are_written(spark: SparkSession, catalog: Catalog) -> None:
    rows = {row["item_id"]: row["title"] for row in read_catalog(spark, catalog).collect()}
    assert rows == {"x1": "Cup", "X1": "Mug", "x 1": "Mug", "y2": "Gun", "z3": "Tea pot"}


def test_items_with_several_titles_are_told(spark: SparkSession, catalog: Catalog) -> None:
    rows = catalogue_rows(spark, catalog, Cleaning.model_validate(ONE_SPELLING))
    assert [tuple(row) for row in catalog_conflicts(rows).collect()] == [("X1", ["Cup", "Mug"])]
    assert catalog_conflicts(catalogue_rows(spark, catalog)).collect() == []

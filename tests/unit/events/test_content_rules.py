from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.cleaning import Cleaning
from recsys_spark.errors import UserError
from recsys_spark.events.rules.content import blocked_items
from recsys_spark.events.rules.spelling import spelling_collisions


def test_items_are_blocked_by_id_by_file_and_by_what_the_catalogue_says(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "blocked.txt").write_text("b 2\n\n c3 \nC3\n")
    cleaning = Cleaning.model_validate(
        {
            "blocked_items": [" a1", "b2"],
            "blocked_items_file": str(tmp_path / "blocked.txt"),
            "forbidden_text": ["(?i)weapon", r"\bgun\b"],
            "item_ids": {"case": "upper", "blanks": "remove"},
        }
    )
    catalogue = spark.createDataFrame(
        [
            ("A1", "A Weapon", None, None, None),
            ("D4", "a toy", None, None, "gun & co"),
            ("D4", "a toy", None, None, "toys"),  # one row of several is enough
            ("E5", "a begun story", "tea", "books", None),
            ("F6", None, "the weapons", None, None),
        ],
        "item_id string, title string, description string, category string, brand string",
    )
    found = blocked_items(spark, cleaning, catalogue)
    assert found is not None
    assert {row[0]: (row[1], row[2]) for row in found.collect()} == {
        "A1": (True, True),
        "B2": (True, False),
        "C3": (True, False),
        "D4": (False, True),
        "F6": (False, True),
    }
    assert found.columns == ["item_id", "blocked_item", "forbidden_content"]


def test_nothing_is_blocked_where_no_rule_is_on(spark: SparkSession) -> None:
    assert blocked_items(spark, Cleaning(), None) is None
    assert blocked_items(spark, Cleaning(forbidden_text=("x",)), None) is None


def test_a_blocklist_that_is_not_there_is_named(spark: SparkSession) -> None:
    with pytest.raises(
        UserError, match=r"^cleaning.blocked_items_file /nowhere: there is no such file; check the path$"
    ):
        blocked_items(spark, Cleaning(blocked_items_file="/nowhere"), None)


def test_ids_that_differ_only_by_case_or_blanks_are_told_together(spark: SparkSession) -> None:
    ids = ["a1", "A1", "A 1", "a1", "b", "b", "C\u00a0c", "cc", None]
    frame = spark.createDataFrame([(item,) for item in ids], "item_id string")
    found = sorted(row["spellings"] for row in spelling_collisions(frame).collect())
    assert found == [["A 1", "A1", "a1"], ["C\u00a0c", "cc"]]

"""Logged exposures are read as they are meant, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.config import load_config
from recsys_spark.config.cleaning import ItemIds
from recsys_spark.config.sources import Logged
from recsys_spark.errors import UserError
from recsys_spark.evaluation.logged import read_logged

DAY = 86_400
HEADER = "who,what,when,p,place\n"
COLUMNS = {"user_id": "who", "item_id": "what", "time": "when", "propensity": "p", "rank": "place"}


def read(spark: SparkSession, folder: Path, *rows: str, columns: dict[str, str] | None = None) -> list[tuple]:
    (folder / "shown.csv").write_text(HEADER + "\n".join(rows) + "\n", encoding="utf-8")
    logged = Logged(
        format="csv", path=str(folder / "shown.csv"), options={"header": "true"}, columns=columns or COLUMNS
    )
    return [tuple(row) for row in read_logged(spark, logged, ItemIds(case="upper"), DAY, 3 * DAY).collect()]


def test_exposures_of_the_window_are_read_with_ids_spelled_as_the_shops(spark: SparkSession, tmp_path: Path) -> None:
    rows = ("anna, a1 ,1970-01-02T00:00:10,0.25,2", "anna,b,1970-01-04,0.5,1", "bert,c,1970-01-01,0,1")
    assert read(spark, tmp_path, *rows) == [("anna", "A1", 2, 0.25, DAY + 10)]


def test_without_ranks_the_rank_is_zero(spark: SparkSession, tmp_path: Path) -> None:
    columns = {ours: theirs for ours, theirs in COLUMNS.items() if ours != "rank"}
    assert read(spark, tmp_path, "anna,a,1970-01-03,1,x", columns=columns) == [("anna", "A", 0, 1.0, 2 * DAY)]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            "anna,a,1970-01-02,0,1\nanna,a,1970-01-02,1.5,1\nanna,a,1970-01-02,,1",
            "3 exposures have a p that is not a probability from 1e-06 to 1",
        ),
        ("anna,a,yesterday,0.5,1", "1 exposures have a when that cannot be read as a time"),
        ("anna,a,1970-01-02,0.5,0\n,a,1970-01-02,0.5,1", "2 exposures have a user, item or rank that is missing"),
    ],
)
def test_an_exposure_that_cannot_be_used_stops_the_estimate(
    spark: SparkSession, tmp_path: Path, row: str, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        read(spark, tmp_path, "anna,b,1970-01-02,0.5,1", row)


def test_the_configuration_says_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(
        "source: {format: csv, path: x.csv, columns: {user_id: u, item_id: i, event_time: t}, event_type: purchase}\n"
        "evaluation: {logged: {format: csv, path: e.csv, columns: {user_id: u, item_id: i, time: t, propensity: p}}}\n",
        encoding="utf-8",
    )
    assert load_config([str(file)], []).evaluation.logged is not None
    with pytest.raises(UserError, match=r"evaluation\.logged needs split.strategy temporal"):
        load_config([str(file)], ["split.strategy=leave_one_out"])
    with pytest.raises(ValueError, match=r"lacks.*propensity"):
        Logged(format="csv", path="e.csv", columns={"user_id": "u", "item_id": "i", "time": "t"})
    with pytest.raises(UserError, match="second number must be larger"):
        load_config([str(file)], ["evaluation.popularity_shares=[0.8, 0.5]"])

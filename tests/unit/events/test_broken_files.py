from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.sources import Source
from recsys_spark.errors import UserError
from recsys_spark.events.rows import BAD_ENCODING, CORRUPT, MAX_LINE, RAW, TOO_LONG
from recsys_spark.events.sources import (
    BrokenFile,
    RawFile,
    broken_files,
    check_files,
    file_errors,
    read_source,
    source_files,
)

HEADER = "user,item,time\n"


def source(path: Path, format: str = "csv", **extra: Any) -> Source:
    columns = {"user_id": "user", "item_id": "item", "event_time": "time"}
    options = {"header": "true"} if format == "csv" else {}
    return Source(format=format, path=str(path), columns=columns, event_type="purchase", options=options, **extra)  # type: ignore[arg-type]


def users(frame: DataFrame) -> list[str | None]:
    with file_errors():
        return sorted(row["user"] for row in frame.select("user").collect())


def truncated_gz(path: Path, text: str) -> None:
    whole = gzip.compress(text.encode())
    path.write_bytes(whole[: len(whole) // 2])


def lines(name: str, rows: int = 20_000) -> str:
    """CSV of which half an archive still holds more than the header."""
    return HEADER + "".join(f"{name}{row * 7919 % rows},i{row * 104729 % 9973},2024-01-01\n" for row in range(rows))


def without_broken(spark: SparkSession, config: Source) -> tuple[list[str | None], dict[str, str]]:
    """Run as the stage does: on a broken file, check all, and run again without those that are broken."""
    try:
        raw = read_source(spark, config)
        return users(raw.frame), {Path(file.name).name: file.reason for file in raw.broken}
    except BrokenFile:
        files = source_files(spark, config, "source")
        broken = broken_files(spark, config, files)
        assert broken
        left = [file for file in files if file.name not in {each.name for each in broken}]
        raw = read_source(spark, config, only=left)
        return users(raw.frame), {Path(file.name).name: file.reason for file in (*broken, *raw.broken)}


def test_every_truncated_archive_is_found_and_the_other_files_are_read(spark: SparkSession, tmp_path: Path) -> None:
    for name in ("a", "b"):
        truncated_gz(tmp_path / f"{name}.csv.gz", lines(name))
    (tmp_path / "c.csv.gz").write_bytes(b"not gzip at all")
    (tmp_path / "d [1].csv.gz").write_bytes(gzip.compress(f"{HEADER}u1,i1,2024-01-01\n".encode()))
    (tmp_path / "e.csv").write_text(f"{HEADER}u2,i2,2024-01-01\n")
    (tmp_path / "f.csv").touch()
    found, broken = without_broken(spark, source(tmp_path / "*"))
    assert found == ["u1", "u2"]
    assert sorted(broken) == ["a.csv.gz", "b.csv.gz", "c.csv.gz", "f.csv"]
    assert "Unexpected end of input stream" in broken["a.csv.gz"]
    assert broken["f.csv"] == "the file is empty"
    assert not any("\n" in reason for reason in broken.values())


def test_a_broken_archive_is_named_and_stops_where_it_is_all_there_is(spark: SparkSession, tmp_path: Path) -> None:
    truncated_gz(tmp_path / "a.csv.gz", lines("a"))
    with pytest.raises(BrokenFile, match=r"a\.csv\.gz: cannot be read .*Unexpected end of input stream") as error:
        users(read_source(spark, source(tmp_path)).frame)
    assert error.value.path == str(tmp_path / "a.csv.gz")
    (tmp_path / "a.csv.gz").write_bytes(b"not gzip at all")
    with pytest.raises(UserError, match=r"a\.csv\.gz: it cannot be read"):
        read_source(spark, source(tmp_path))


def test_truncated_json_archives_are_found(spark: SparkSession, tmp_path: Path) -> None:
    rows = [json.dumps({"user": f"a{row * 7919 % 20_000}", "item": "i", "time": "2024-01-01"}) for row in range(20_000)]
    truncated_gz(tmp_path / "a.json.gz", "\n".join(rows))
    (tmp_path / "b.json").write_text(rows[0] + "\n")
    found, broken = without_broken(spark, source(tmp_path, "json"))
    assert (found, list(broken)) == (["a0"], ["a.json.gz"])


def events(*users: Any, **more: Any) -> pd.DataFrame:
    return pd.DataFrame({"user": list(users), "item": "i", "time": pd.Timestamp("2024-01-01"), **more})


def test_parquet_files_without_a_footer_or_with_flipped_bytes_are_found(spark: SparkSession, tmp_path: Path) -> None:
    whole = pa.table({"user": [f"u{row}" for row in range(5000)], "item": ["i"] * 5000, "time": ["2024-01-01"] * 5000})
    pq.write_table(whole, tmp_path / "flipped.parquet", use_dictionary=False)
    flipped = bytearray((tmp_path / "flipped.parquet").read_bytes())
    flipped[20:3000] = bytes(255 - byte for byte in flipped[20:3000])
    (tmp_path / "flipped.parquet").write_bytes(flipped)
    (tmp_path / "cut.parquet").write_bytes(flipped[: len(flipped) // 2])
    # Another value, which only the checksum that Spark writes beside a page can tell.
    plain = {"compression": "none", "parquet.enable.dictionary": "false"}
    spark.createDataFrame(whole.to_pandas()).coalesce(1).write.options(**plain).parquet(str(tmp_path / "spark"))
    written = next((tmp_path / "spark").glob("*.parquet")).read_bytes()
    assert b"u4321" in written
    (tmp_path / "checksum.parquet").write_bytes(written.replace(b"u4321", b"u9999", 1))
    shutil.rmtree(tmp_path / "spark")
    events("u1").to_parquet(tmp_path / "good.parquet")
    found, broken = without_broken(spark, source(tmp_path, "parquet"))
    assert found == ["u1"]
    assert sorted(broken) == ["checksum.parquet", "cut.parquet", "flipped.parquet"]
    assert "it cannot be read as parquet" in broken["cut.parquet"]


def test_parquet_files_of_other_types_are_united_and_one_that_lacks_a_column_is_told(
    spark: SparkSession, tmp_path: Path
) -> None:
    events(7, 12345678901234567).to_parquet(tmp_path / "a.parquet")
    events("u1").to_parquet(tmp_path / "b.parquet")
    events(8.0, None).to_parquet(tmp_path / "c.parquet")
    events(9, extra="x").drop(columns="item").to_parquet(tmp_path / "d.parquet")
    raw = read_source(spark, source(tmp_path, "parquet"))
    assert sorted(str(row["user"]) for row in raw.frame.collect()) == ["12345678901234567", "7", "8", "None", "u1"]
    assert [(Path(file.name).name, file.reason) for file in raw.broken] == [
        ("d.parquet", "no column 'item' (columns.item_id); the file has user, time, extra")
    ]
    pq.write_table(pa.table({"user": pa.array([1], pa.int32()), "item": ["i"], "time": ["t"]}), tmp_path / "e.parquet")
    for other in "bcd":
        (tmp_path / f"{other}.parquet").unlink()
    assert dict(read_source(spark, source(tmp_path, "parquet")).frame.dtypes)["user"] == "bigint"


def test_bytes_that_are_no_utf8_are_marked_in_ids_and_never_reach_what_is_written(
    spark: SparkSession, tmp_path: Path
) -> None:
    latin = "ren\xe9".encode("latin-1")
    (tmp_path / "a.csv").write_bytes(HEADER.encode() + b"u1,i1,2024-01-01\n" + latin + b",i2,2024-01-01\n")
    (tmp_path / "a.json").write_bytes(b'{"user": "' + latin + b'", "item": "i2", "time": "t"}\n')
    user = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\4\0\0\0\6\0\0\0"), pa.py_buffer(latin + b"u1"))
    pq.write_table(pa.table({"user": user, "item": ["i", "i"], "time": ["t", "t"]}), tmp_path / "a.parquet")
    for format in ("csv", "json", "parquet"):
        frame = read_source(spark, source(tmp_path / f"a.{format}", format)).frame
        assert {(row["user"], row[BAD_ENCODING]) for row in frame.collect()} >= {("ren\ufffd", True)}
        assert frame.where(BAD_ENCODING).count() == 1
        assert frame.where(F.col(RAW).contains("ren\ufffd")).count() == 1


TEN_MB = 10 << 20


@pytest.mark.parametrize(
    ("line", "many_fields"),
    [
        (f"u,{'x' * TEN_MB},t", False),
        ("," * TEN_MB, True),
        ('"' * TEN_MB, False),
        ('",' * (TEN_MB // 2), True),
        (f'u,"{"y" * TEN_MB}', False),
    ],
    ids=["a long field", "commas", "quotes", "quotes and commas", "an open quote"],
)
def test_a_line_of_ten_megabytes_is_marked_and_its_neighbours_are_read(
    spark: SparkSession, tmp_path: Path, line: str, many_fields: bool
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{HEADER}u1,i1,2024-01-01\n{line}\nu2,i2,2024-01-02\n")
    config = source(path)

    def marked(files: tuple[RawFile, ...] | None) -> list[tuple[int, bool]]:
        columns = ("user", TOO_LONG, F.length(RAW).alias("length"), F.col(CORRUPT).isNull().alias("fits"))
        with file_errors():
            rows = read_source(spark, config, only=files).frame.select(*columns).collect()
        assert sorted(row["user"] for row in rows if row["fits"] and not row[TOO_LONG]) == ["u1", "u2"]
        return [(row["length"], row[TOO_LONG]) for row in rows if row["length"] > 1000]

    if many_fields:
        with pytest.raises(BrokenFile) as error:
            marked(None)
        assert error.value.unparsable
        files = source_files(spark, config, "source")
        assert ["more fields than can be read" in file.reason for file in broken_files(spark, config, files)] == [True]
        checked = check_files(spark, config, files)
        assert (checked.broken, [file.long_lines for file in checked.files]) == ((), [True])
        assert check_files(spark, config, checked.files) == checked
        found = marked(checked.files)
    else:
        found = marked(None)
    assert len(found) == 1
    assert found[0][0] >= TEN_MB > MAX_LINE
    assert found[0][1]


def test_a_json_line_of_ten_megabytes_is_marked_and_not_parsed(spark: SparkSession, tmp_path: Path) -> None:
    good = json.dumps({"user": "u1", "item": "i1", "time": "2024-01-01"})
    long_ = ["[" * TEN_MB, json.dumps({"user": "u2", "item": "x" * TEN_MB, "time": "t"})]
    (tmp_path / "a.json").write_text("\n".join([long_[0], good, long_[1]]) + "\n")
    frame = read_source(spark, source(tmp_path / "a.json", "json")).frame
    rows = frame.select("user", TOO_LONG, F.length(RAW).alias("length"), F.length(CORRUPT).alias("corrupt")).collect()
    assert sorted((str(row["user"]), row[TOO_LONG], row["length"], row["corrupt"]) for row in rows) == sorted(
        [("u1", False, len(good), None), *[("None", True, len(line), len(line)) for line in long_]], key=str
    )

"""The log of micro-batches: whole, in order, never written over."""

from __future__ import annotations

import glob
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.errors import UserError
from recsys_spark.tables.__main__ import main
from recsys_spark.tables.batches import BatchLog, batches_of
from recsys_spark.tables.schemas import TABLES

EVENT = {"event_id": "e", "user_id": "u", "item_id": "i", "event_type": "click", "source_file": "f", "batch": 1}


def table(*names: str) -> pa.Table:
    return pa.Table.from_pylist(
        [{**EVENT, "event_id": name} for name in names], schema=TABLES["live_events"].arrow_schema
    )


def test_a_batch_is_read_as_it_was_written_and_an_empty_table_is_no_file(tmp_path: Path) -> None:
    log = BatchLog(tmp_path / "batches")
    assert log.newest() is None
    none = TABLES["live_quarantine"].arrow_schema.empty_table()
    assert log.add(7, {"live_events": table("a", "b"), "live_quarantine": none}, {"rows": 2})
    batch = log.read(7)
    assert batch.table("live_events")["event_id"].to_pylist() == ["a", "b"]
    assert batch.table("live_quarantine").num_rows == 0
    assert batch.facts == {"rows": 2}
    assert sorted(path.name for path in batch.directory.iterdir()) == ["batch.json", "live_events.parquet"]


def test_a_number_that_is_taken_stays_as_it_is(tmp_path: Path) -> None:
    log = BatchLog(tmp_path)
    assert log.add(1, {"live_events": table("a")}, {})
    assert not log.add(1, {"live_events": table("b")}, {"other": True})
    assert log.read(1).table("live_events")["event_id"].to_pylist() == ["a"]
    assert not list(tmp_path.glob(".*"))


def test_batches_come_in_the_order_of_their_numbers_over_all_folders(tmp_path: Path) -> None:
    log = BatchLog(tmp_path)
    for number in (999, 1000, 1, 2001):
        log.add(number, {}, {})
    assert [batch.number for batch in log.after(1)] == [999, 1000, 2001]
    assert [batch.number for batch in log.backwards()] == [2001, 1000, 999, 1]
    newest = log.newest()
    assert newest is not None
    assert newest.number == 2001


def test_what_a_killed_writer_left_is_no_batch_and_is_swept(tmp_path: Path) -> None:
    log = BatchLog(tmp_path)
    left = tmp_path / ".3-half"
    left.mkdir()
    (left / "live_events.parquet").write_bytes(b"half")
    assert log.newest() is None
    log.sweep()
    assert not left.exists()


def test_a_batch_whose_facts_are_damaged_is_told(tmp_path: Path) -> None:
    log = BatchLog(tmp_path)
    log.add(1, {}, {})
    (log.read(1).directory / "batch.json").write_text("{")
    with pytest.raises(UserError, match="missing or damaged"):
        log.read(1)


def test_show_prints_a_glob_over_the_micro_batches_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "{format: csv, path: x, columns: {user_id: u, item_id: i, event_time: t}, event_type: click}"
    (tmp_path / "c.yaml").write_text(f"workspace: {tmp_path}\nsource: {source}\n")
    monkeypatch.setattr("sys.argv", ["tables", "show", "live_events", "--config", str(tmp_path / "c.yaml")])
    assert main() == 2
    assert "no micro-batch has rows of live_events" in capsys.readouterr().err
    batches_of(tmp_path).add(1, {"live_events": table("a")}, {})
    assert main() == 0
    [file] = glob.glob(capsys.readouterr().out.strip())
    assert pq.read_table(file, partitioning=None)["event_id"].to_pylist() == ["a"]

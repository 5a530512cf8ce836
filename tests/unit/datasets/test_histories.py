from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.datasets.flat import FlatHistories
from recsys_spark.datasets.histories import HISTORIES, bucket_histories, read_histories, write_histories
from recsys_spark.datasets.split import Cuts
from recsys_spark.datasets.vocabulary import COUNTS, add_counts, count_items, write_vocabulary
from recsys_spark.events.layout import file_name
from tests.unit.datasets.clean import CLEAN, clean_rows, write_file

NOON = datetime(2024, 1, 1, 12)
SECOND = int(NOON.replace(tzinfo=UTC).timestamp())
LATER = Cuts(as_of=SECOND + 10**7, valid_start=SECOND + 5, test_start=SECOND + 86_400)


def users(*names: str) -> pa.Table:
    return pa.table(
        {"user_id": pa.array(names, pa.string()), "user_index": pa.array(range(1, len(names) + 1), pa.int32())}
    )


@pytest.fixture
def item_ids(tmp_path: Path) -> Path:
    """Item i<n> has the index n."""
    folder = tmp_path / "item_ids"
    folder.mkdir()
    ids = pa.table({"item_id": [f"i{n}" for n in range(1, 20)], "item_index": pa.array(range(1, 20), pa.int32())})
    pq.write_table(ids.slice(7), folder / "part-0.parquet")
    pq.write_table(ids.slice(0, 7), folder / "part-1.parquet")
    return folder


def read(files: list[str], item_ids: Path, ids: pa.Table, cuts: Cuts = LATER, **weights: float) -> dict[str, Any]:
    """User to (index, items, types, weights, times since noon, folds)."""
    names, flat = bucket_histories(files, item_ids, ids, weights, cuts)
    columns = (flat.items, flat.event_types, flat.weights, flat.times - SECOND, flat.folds)
    parts = [slice(*flat.offsets[at : at + 2]) for at in range(len(names))]
    return {
        name: (index, *(column[part].tolist() for column in columns))
        for name, index, part in zip(names.to_pylist(), flat.users.tolist(), parts, strict=True)
    }


def test_ties_in_time_keep_the_order_of_the_file(tmp_path: Path, item_ids: Path) -> None:
    rows = clean_rows(("u", f"i{place}", "purchase", NOON) for place in (1, 10, 9, 2))
    for row, (source, place) in zip(rows, [("b", 1), ("a", 10), ("a", 9), ("a", 2)], strict=True):
        row |= {"source_file": source, "source_order": place}
    file = write_file(rows, tmp_path / file_name("all", 0))
    cuts = Cuts(as_of=SECOND + 1)
    assert read([file], item_ids, users("u"), cuts)["u"][1:] == (
        [2, 9, 10, 1],
        [4] * 4,
        [0.0] * 4,
        [0] * 4,
        [0, 0, 1, 2],
    )


def test_types_weights_and_folds_are_those_of_the_events_before_the_end(tmp_path: Path, item_ids: Path) -> None:
    at = [timedelta(), timedelta(seconds=5), timedelta(days=1), timedelta(seconds=10**7)]
    kinds = ("view", "purchase", "never heard of", "purchase")
    rows = clean_rows(("b", "i3", kind, NOON + after) for kind, after in zip(kinds, at, strict=True))
    rows += clean_rows([("a", "i7", "search", NOON), ("gone", "i8", "view", NOON + at[3])])
    file = write_file(rows, tmp_path / file_name("all", 4))
    found = read([file], item_ids, users("b", "other", "a"), view=0.25, purchase=2.0)
    assert found == {
        "a": (3, [7], [5], [0.0], [0], [0]),
        "b": (1, [3, 3, 3], [1, 4, 0], [0.25, 2.0, 0.0], [0, 5, 86_400], [0, 1, 2]),
    }


def test_a_bucket_whose_events_are_all_later_has_no_users(tmp_path: Path, item_ids: Path) -> None:
    rows = clean_rows([("a", "unknown", "view", NOON), ("b", "i2", "view", NOON)])
    files = [write_file(rows, tmp_path / file_name(day, 0)) for day in ("2024-01-01", "2024-01-02")]
    for some in (files, files[:1]):
        assert read(some, item_ids, users(), Cuts(as_of=SECOND)) == {}


def test_the_days_of_a_bucket_make_whole_histories(tmp_path: Path, item_ids: Path) -> None:
    names = ["ä", "b", "a", "Z", "aa"]
    events = [
        (
            names[(day * 3 + place) % 5],
            f"i{1 + (day * 7 + place) % 19}",
            "view",
            NOON + timedelta(days=day, hours=place),
        )
        for day in range(4)
        for place in range(9)
    ]
    rows = clean_rows(events)
    days = sorted({row["event_date"] for row in rows})
    files = [
        write_file([row for row in rows if row["event_date"] == day], tmp_path / file_name(str(day), 0)) for day in days
    ]
    whole = [write_file(rows, tmp_path / file_name("all", 0))]
    found = read(files, item_ids, users(*names))
    assert found == read(whole, item_ids, users(*names))
    assert list(found) == ["Z", "a", "aa", "b", "ä"]  # as bytes
    assert found["Z"][1] == [int(item[1:]) for user, item, *_ in events if user == "Z"]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_before_1970_are_rounded_down_whatever_their_unit(tmp_path: Path, item_ids: Path, unit: str) -> None:
    early = datetime(1969, 12, 31, 23, 59, 59, 500_000)
    table = pa.Table.from_pylist(clean_rows([("u", "i1", "view", early)]), schema=CLEAN)
    position = table.schema.get_field_index("event_time")
    table = table.set_column(position, "event_time", table["event_time"].cast(pa.timestamp(unit)))
    path = tmp_path / file_name("all", 0)
    pq.write_table(table, path)
    assert bucket_histories([str(path)], item_ids, users("u"), {}, LATER)[1].times.tolist() == [-1]


def test_files_that_break_the_layout_are_refused(tmp_path: Path, item_ids: Path) -> None:
    rows = clean_rows([("a", "i1", "view", NOON), ("b", "i2", "view", NOON)])
    file = write_file(rows, tmp_path / file_name("all", 0))
    with pytest.raises(RuntimeError, match="a user is not of this bucket"):
        read([file], item_ids, users("a"))
    unknown = write_file(clean_rows([("a", "new", "view", NOON)]), tmp_path / file_name("all", 1))
    with pytest.raises(RuntimeError, match="an item_id has no index"):
        read([unknown], item_ids, users("a"))
    shuffled = tmp_path / file_name("all", 2)
    for order in ([1, 0], [0, 1, 0]):
        pq.write_table(pa.Table.from_pylist([rows[at] for at in order], schema=CLEAN), shuffled)
        with pytest.raises(RuntimeError, match="not sorted"):
            read([str(shuffled)], item_ids, users("a", "b"))


def test_histories_are_read_as_they_were_written(tmp_path: Path) -> None:
    flat = histories_of([[(1, 10), (2, 20)], [(3, 30)]])
    write_histories(pa.array(["x", "y"]), flat, tmp_path / "h.parquet")
    again = read_histories(str(tmp_path / "h.parquet"))
    for name, values in vars(flat).items():
        assert getattr(again, name).tolist() == values.tolist(), name
    assert pq.read_schema(tmp_path / "h.parquet").names == HISTORIES.names
    assert pq.read_table(tmp_path / "h.parquet", columns=["user_id"])["user_id"].to_pylist() == ["x", "y"]


def test_batches_are_cut_by_the_events_of_whole_users() -> None:
    lists = [[1] * count for count in (2, 0, 3, 9, 1, 0)]
    batch = pa.RecordBatch.from_pydict({"user_index": list(range(6)), "items": lists}).slice(1)
    cut = [part.column("user_index").to_pylist() for part in FlatHistories.chunks([batch, batch.slice(4)], 4)]
    assert cut == [[1, 2], [3], [4, 5], [5]]
    assert list(FlatHistories.chunks([batch.slice(0, 0)], 4)) == []


def histories_of(users: list[list[tuple[int, int]]]) -> FlatHistories:
    """Users' (item, time) pairs; fold 0 before time 100, 1 before 200, then 2."""
    events = [event for user in users for event in user]
    items, times = (np.array(column, dtype=np.int64) for column in zip(*events, strict=True))
    return FlatHistories(
        users=np.arange(len(users)) + 1,
        offsets=np.cumsum([0, *map(len, users)]),
        items=items,
        event_types=np.full(len(items), 4),
        weights=np.ones(len(items), dtype=np.float32),
        times=times,
        folds=times // 100,
    )


def test_items_are_counted_by_fold_whatever_the_buckets_of_their_users(tmp_path: Path) -> None:
    main, earlier = Cuts(300, 100, 200), Cuts(60, 30, 60)
    parts = [[[(1, 10), (2, 20), (1, 110)]], [[(2, 5), (9, 250)], [(1, 50)]]]
    counts = tmp_path / "counts"
    counts.mkdir()
    for number, part in enumerate(parts):
        told = list(count_items(histories_of(part), (main, earlier), counts / f"{number}.parquet"))
        assert all(one.heaviest == 1.0 for one in told)
    assert [(one.name, one.number, one.rows, one.first, one.last) for one in told] == [
        ("fold-0", 0, 2, 5, 50),
        ("fold-0", 2, 1, 250, 250),
        ("fold-1", 0, 1, 5, 5),
        ("fold-1", 1, 1, 50, 50),
    ]
    total, first = add_counts(counts, origin=0)
    assert total[:, [1, 2, 9]].tolist() == [[2, 2, 0], [1, 0, 0], [0, 0, 1]]
    assert first[0, [1, 2]].tolist() == [10, 5]
    assert add_counts(counts, origin=1)[0].tolist() == [[0, 1, 2], [0, 1, 0], [0, 0, 0]]
    items = tmp_path / "items"
    items.mkdir()
    known = {"item_index": pa.array([9, 1, 2], pa.int32()), "item_id": ["b", "c", "a"], "title": [None, "C", "A"]}
    pq.write_table(pa.table(known), items / "part-0.parquet")
    assert write_vocabulary(counts, 0, (0, 2), items, tmp_path / "vocabulary.parquet") == 3
    assert pq.read_table(tmp_path / "vocabulary.parquet").to_pydict() == {
        "code": [0, 1, 2],
        "item_index": [2, 9, 1],
        "item_id": ["a", "b", "c"],
        "title": ["A", "b", "C"],
        "count": [2, 1, 2],
    }
    assert pq.read_schema(counts / "0.parquet").equals(COUNTS)

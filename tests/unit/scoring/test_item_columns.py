"""Columns of items from a fit's histories: counted by hand, and blind to what comes later."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.fusion.item_columns import ItemColumns
from recsys_spark.scoring.item_columns import count_item_events, item_columns, shared_titles

DAY = 86400
NOW = 100 * DAY
HISTORIES = (
    "user_index int, items array<int>, event_types array<int>, weights array<float>, times array<bigint>, "
    "folds array<int>"
)
TRAIN, VALID, TEST = 0, 1, 2
PURCHASE, VIEW = 4, 1


def history(user, *events):
    """Events as (item_index, day, fold, type)."""
    items, days, folds, types = (list(column) for column in zip(*events, strict=True))
    return (user, items, types, [1.0] * len(events), [int(day * DAY) for day in days], folds)


PAST = [
    history(
        0,
        *[(7, day, TRAIN, PURCHASE) for day in (60.5, 80.5, 95.25, 95.75)],  # days 60, 80 and 95
        (9, 99, TRAIN, PURCHASE),
    ),
    history(1, (9, 20, TRAIN, VIEW), (7, 99, TRAIN, PURCHASE)),
]
FUTURE = [
    PAST[0],
    history(1, (9, 20, TRAIN, VIEW), (7, 99, TRAIN, PURCHASE), (7, 100, VALID, PURCHASE), (9, 120, TEST, PURCHASE)),
    history(2, *[(7, day, VALID, PURCHASE) for day in (100, 101, 102)]),
    history(3, (11, 130, TEST, PURCHASE)),
]


@pytest.fixture
def counted(spark, tmp_path):
    """A way of counting histories as of NOW."""
    rows = [{"code": code, "item_index": index, "title": "tea"} for code, index in enumerate((9, 7))]
    vocabulary = tmp_path / "vocabulary.parquet"
    schema = pa.schema([("code", pa.int32()), ("item_index", pa.int32()), ("title", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema), vocabulary)
    described = spark.createDataFrame(
        [(7, 2.5, 3, 1), (9, None, 1, 0), (11, 1.0, 2, 2)],
        "item_index int, price double, category_code int, brand_code int",
    )

    def count(histories, name) -> ItemColumns:
        frame = spark.createDataFrame(histories, HISTORIES)
        counts = count_item_events(frame, (TRAIN,), NOW, ("purchase",))
        return item_columns(counts, described, NOW, vocabulary, tmp_path / name)

    return count


def test_columns_are_what_a_hand_counts_and_the_future_does_not_change_them(counted):
    found = counted(PAST, "past")
    nine, seven = 0, 1
    assert found.purchases.tolist() == [1, 5]
    assert found.purchases_7.tolist() == [1, 3]
    assert found.purchases_30.tolist() == [1, 4]
    assert found.buyers.tolist() == [1, 2]
    assert found.repeat_share.tolist() == [0.0, 0.5]
    assert found.new_14.tolist() == [1, 1]  # of item 7's buyers one began on day 99, the other on day 60
    assert found.new_30.tolist() == [1, 1]
    assert found.new_60.tolist() == [1, 2]
    assert found.interval[seven] == pytest.approx(35 / 2)  # days 60, 80, 95
    assert math.isnan(found.interval[nine])
    assert found.age.tolist() == [80, 39.5]  # first events: a view on day 20, a purchase on day 60.5
    assert found.idle.tolist() == [1, 1]
    assert found.price[seven] == 2.5
    assert math.isnan(found.price[nine])
    assert (found.category.tolist(), found.brand.tolist()) == ([1, 3], [0, 1])
    poisoned = counted(FUTURE, "future")
    for name, values in vars(found).items():
        assert getattr(poisoned, name).nan_to_num(-7).tolist() == values.nan_to_num(-7).tolist(), name


def test_items_of_one_title_share_a_code_and_a_title_of_one_item_is_no_kind(tmp_path):
    titles = ["tea", "milk", "coffee", "milk", "tea", "milk"]
    pq.write_table(pa.table({"title": titles}), tmp_path / "vocabulary.parquet")
    assert shared_titles(tmp_path / "vocabulary.parquet").tolist() == [1, 2, 0, 2, 1, 2]


def test_columns_are_read_back_as_they_were_written(counted, tmp_path):
    found = counted(PAST, "past")
    found.save(tmp_path / "columns.safetensors")
    again = ItemColumns.load(tmp_path / "columns.safetensors")
    for name, values in vars(found).items():
        assert getattr(again, name).nan_to_num(-7).tolist() == values.nan_to_num(-7).tolist(), name

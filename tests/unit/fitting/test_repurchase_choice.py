from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.config import Config
from recsys_spark.fitting.inputs import FitInputs
from recsys_spark.fitting.repurchase import HeldOut, choose_half_life, fit, repeat_propensity
from recsys_spark.recommenders.registry import load_recommender

DAY, PURCHASE, VIEW = 86_400, 4, 1
START = 100 * DAY


def batch(users):
    """Users as lists of (global index, type, weight, time, fold)."""
    columns = {
        name: pa.array([[event[place] for event in events] for events in users], pa.list_(kind))
        for place, (name, kind) in enumerate(
            [
                ("items", pa.int32()),
                ("event_types", pa.int32()),
                ("weights", pa.float32()),
                ("times", pa.int64()),
                ("folds", pa.int32()),
            ]
        )
    }
    return pa.RecordBatch.from_pydict(columns)


def held_out(*half_lives):
    codes = np.array([-1, 0, 1, 2, -1])
    return HeldOut(np.array([0.5, 0.5, 0.5]), codes, (0,), (PURCHASE,), START, half_lives)


def test_the_gain_of_a_half_life_is_the_ndcg_of_what_was_bought_next():
    # Item 1 often and long ago, item 2 once and lately; item 2 is bought next.
    history = [(1, PURCHASE, 1.0, START - 40 * DAY, 0)] * 3 + [(2, PURCHASE, 1.0, START - 5 * DAY, 0)]
    target = [(2, PURCHASE, 1.0, START + DAY, 0)]
    gains, users = held_out(5.0, 1000.0).gains(batch([history + target]))
    assert users == 1
    np.testing.assert_allclose(gains, [1.0, 1 / math.log2(3)])


@pytest.mark.parametrize(
    "event",
    [
        (2, PURCHASE, 1.0, START + DAY, 1),  # of a later fold
        (2, VIEW, 1.0, START + DAY, 0),  # not a purchase
        (4, PURCHASE, 1.0, START + DAY, 0),  # not in the vocabulary
        (99, PURCHASE, 1.0, START + DAY, 0),  # known since
    ],
)
def test_only_purchases_of_the_fits_own_folds_and_items_count_as_next(event):
    gains, users = held_out(5.0).gains(batch([[(1, PURCHASE, 1.0, START - DAY, 0), event]]))
    assert (gains.tolist(), users) == ([0.0], 0)


def test_users_without_a_history_before_the_held_out_part_do_not_count():
    gains, users = held_out(5.0).gains(batch([[(1, PURCHASE, 1.0, START + DAY, 0)], []]))
    assert (gains.tolist(), users) == ([0.0], 0)


SOURCE = {
    "format": "csv",
    "path": "unused.csv",
    "event_type": "purchase",
    "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
}
HISTORIES = (
    "user_index int, items array<int>, event_types array<int>, weights array<float>, "
    "times array<bigint>, folds array<int>"
)


@pytest.fixture
def make_inputs(spark, tmp_path):
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    vocabulary = {
        "code": pa.array([0, 1], pa.int32()),
        "item_index": pa.array([7, 3], pa.int32()),
        "item_id": ["a", "b"],
        "title": ["a", "b"],
        "count": pa.array([1, 1], pa.int64()),
    }
    pq.write_table(pa.table(vocabulary), dataset / "vocabulary.parquet")
    (dataset / "dataset.json").write_text(json.dumps({"num_items": 2}))

    def make(rows, split=None, frozen=None):
        config = Config.model_validate({"source": SOURCE, "split": split or {}})
        return FitInputs(
            spark=spark,
            config=config,
            name="repurchase",
            fit="publish" if frozen else "select",
            dataset=dataset,
            histories=spark.createDataFrame(rows, HISTORIES),
            folds=(0,),
            cut_time=200 * DAY,
            output=tmp_path / "bundle",
            frozen=frozen or {},
        )

    return make


def history(user, events):
    """(global index, day, type) as a row of the table."""
    items, days, types = zip(*events, strict=True)
    return (user, list(items), list(types), [1.0] * len(items), [day * DAY + 60 for day in days], [0] * len(items))


def test_the_propensity_is_the_smoothed_share_of_buyers_who_came_back_another_day(make_inputs):
    rows = [
        history(1, [(7, 10, PURCHASE), (7, 10, PURCHASE)]),  # twice on one day
        history(2, [(7, 10, PURCHASE), (7, 20, PURCHASE), (3, 20, PURCHASE)]),
        history(3, [(7, 10, PURCHASE), (7, 20, VIEW)]),
    ]
    inputs = make_inputs(rows)
    mean = (1 + 1) / (4 + 2)  # four pairs of buyer and item, one of them repeated
    expected = [(1 + 10 * mean) / (3 + 10), (0 + 10 * mean) / (1 + 10)]
    np.testing.assert_allclose(repeat_propensity(inputs, inputs.events(), (PURCHASE,)), expected)


LONG = [history(1, [(7, 10, PURCHASE), (7, 11, PURCHASE), (7, 12, PURCHASE), (3, 180, PURCHASE), (3, 195, PURCHASE)])]


def test_the_half_life_that_foresees_the_last_part_of_the_window_is_chosen(make_inputs):
    assert choose_half_life(make_inputs(LONG), (PURCHASE,)) == 30.0


def test_the_middle_half_life_is_taken_where_the_split_goes_by_position_or_the_window_is_short(make_inputs):
    assert choose_half_life(make_inputs(LONG, {"strategy": "leave_one_out"}), (PURCHASE,)) == 120.0
    short = [history(1, [(7, 190, PURCHASE), (3, 195, PURCHASE)])]
    assert choose_half_life(make_inputs(short), (PURCHASE,)) == 120.0


def test_a_frozen_half_life_is_kept(make_inputs):
    inputs = make_inputs(LONG, frozen={"half_life_days": 77.0})
    assert fit(inputs) == {"half_life_days": 77.0}
    assert load_recommender(inputs.output).half_life_days == 77.0

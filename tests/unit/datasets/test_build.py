from __future__ import annotations

import json
import random
from collections import defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.datasets import build
from recsys_spark.datasets.histories import refolded
from recsys_spark.datasets.split import Cuts, Plan
from recsys_spark.errors import UserError
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.tables.pointer import Commit
from tests.stages import Shop
from tests.unit.datasets.clean import Event, build_shop, clean_rows
from tests.unit.datasets.reading import batches

START = datetime(2024, 1, 1)
EARLIEST = datetime(2024, 1, 23)
"""Start of the valid window of the second backtest, two steps of a week before VALID."""
VALID, TEST, AS_OF = datetime(2024, 2, 6), datetime(2024, 2, 20), datetime(2024, 3, 1)
LENGTH = 4
SETTINGS: dict[str, Any] = {
    "source": {
        "format": "csv",
        "path": "unused",
        "columns": {"user_id": "u", "item_id": "i", "event_time": "t"},
        "event_type": "purchase",
    },
    "split": {"test_start": TEST.date(), "valid_days": 14},
    "datasets": {"max_length": LENGTH, "max_windows": 3, "row_groups": 4},
    "training": {"valid_users": 6},
}


def log(seed: int, first: datetime, last: datetime, users: int) -> list[Event]:
    draw = random.Random(seed)
    minutes = int((last - first).total_seconds()) // 60
    return [
        (
            f"u{draw.randrange(users)}",
            f"i{draw.randrange(20)}",
            draw.choice(["purchase", "view"]),
            first + timedelta(minutes=draw.randrange(minutes)),
        )
        for _ in range(users * 8)
    ]


BEFORE = [
    *log(1, START, TEST, 12),
    ("u1", "new1", "purchase", VALID + timedelta(hours=1)),
    ("u2", "new1", "view", VALID + timedelta(hours=2)),
    ("u1", "new1", "purchase", VALID + timedelta(hours=3)),
]
"""new1 has its first event in valid, new2 in test."""
AFTER = [*log(2, TEST, AS_OF, 12), *[("u3", item, "purchase", TEST) for item in ("new2", "i1", "new1")]]


def built(
    spark: SparkSession, folder: Path, events: list[Event], buckets: int = 3, daily: bool = False, **settings: Any
) -> tuple[Shop, Commit]:
    return build_shop(Shop(spark, folder, **{**SETTINGS, **settings}), clean_rows(events), AS_OF, buckets, daily)


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Commit]:
    split = {**SETTINGS["split"], "backtests": 2, "backtest_step_days": 7}
    return built(spark, tmp_path_factory.mktemp("made"), BEFORE + AFTER, split=split)


def expected_histories(until: datetime) -> dict[str, list[Event]]:
    """The events of each user before `until`, by the rule: time, then place in the file."""
    users: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(BEFORE + AFTER, key=lambda event: event[3]):  # a stable sort keeps the file's order
        if event[3] < until:
            users[event[0]].append(event)
    return users


def seconds(time: datetime) -> int:
    return int((time - datetime(1970, 1, 1)).total_seconds())


def codes(commit: Commit, fit: str) -> dict[str, int]:
    table = pq.read_table(commit.path("datasets") / fit / "vocabulary.parquet").to_pydict()
    return dict(zip(table["item_id"], table["code"], strict=True))


def user_names(shop: Shop) -> dict[int, str]:
    return {row["user_index"]: row["user_id"] for row in shop.table("user_ids").collect()}


def real_rows(commit: Commit, fit: str, name: str) -> list[dict[str, Any]]:
    rows = pq.read_table(commit.path("datasets") / fit / name).to_pylist()
    filler = [row for row in rows if row["row_weight"] == 0]
    assert all(not value for row in filler for name in row for value in _values(row[name]))
    return [row for row in rows if row["row_weight"] == 1]


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_histories_hold_each_users_events_in_order_with_their_folds(made: tuple[Shop, Commit]) -> None:
    shop, _ = made
    items = {row["item_id"]: row["item_index"] for row in shop.table("item_ids").collect()}
    rows = {row["user_id"]: row for row in shop.table("histories").collect()}
    expected = expected_histories(AS_OF)
    assert rows.keys() == expected.keys()
    for user, events in expected.items():
        assert rows[user]["items"] == [items[item] for _, item, _, _ in events]
        assert rows[user]["times"] == [seconds(time) for *_, time in events]
        assert rows[user]["event_types"] == [EVENT_TYPES.index(kind) for *_, kind, _ in events]
        assert rows[user]["weights"] == pytest.approx([1.0 if kind == "purchase" else 0.1 for *_, kind, _ in events])
        assert rows[user]["folds"] == [(time >= VALID) + (time >= TEST) for *_, time in events]


@pytest.mark.parametrize(("fit", "until"), [("select", VALID), ("publish", AS_OF), ("backtest-2", EARLIEST)])
def test_the_vocabulary_and_the_matrix_are_those_of_the_fits_events(
    made: tuple[Shop, Commit], fit: str, until: datetime
) -> None:
    shop, commit = made
    names, code = user_names(shop), codes(commit, fit)
    counts: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for user, events in expected_histories(until).items():
        for event in events:
            counts[user, code[event[1]]].append(event)
    known = sorted({event[1] for events in counts.values() for event in events})
    assert code == {item: place for place, item in enumerate(known)}
    found = {(names[row["user_index"]], row["item"]): row for row in real_rows(commit, fit, "matrix")}
    assert found.keys() == counts.keys()
    for key, events in counts.items():
        assert found[key]["count"] == len(events)
        assert found[key]["last_time"] == max(seconds(event[3]) for event in events)
        assert found[key]["weight"] == pytest.approx(sum(1.0 if kind == "purchase" else 0.1 for *_, kind, _ in events))
    assert commit.facts["num_items"][fit] == len(known)
    assert commit.facts["num_rows"][fit]["matrix"] == len(counts)


@pytest.mark.parametrize(("fit", "until"), [("select", VALID), ("publish", AS_OF), ("backtest-2", EARLIEST)])
def test_sequences_are_windows_of_tokens_padded_at_the_end(
    made: tuple[Shop, Commit], fit: str, until: datetime
) -> None:
    shop, commit = made
    names, code = user_names(shop), codes(commit, fit)
    expected = []
    for user, events in expected_histories(until).items():
        tokens, times = [code[item] + 1 for _, item, _, _ in events], [seconds(time) for *_, time in events]
        end = len(tokens)
        for _ in range(3):
            if end < 2:
                break
            start = max(0, end - LENGTH)
            padding = [0] * (LENGTH - (end - start))
            expected.append((user, end - start, tokens[start:end] + padding, times[start:end] + padding))
            end = start + 1
    rows = real_rows(commit, fit, "sequences")
    found = [(names[row["user_index"]], row["length"], row["items"], row["times"]) for row in rows]
    assert sorted(found) == sorted(expected)


def test_gaps_and_sessions_follow_from_the_times_of_a_row(made: tuple[Shop, Commit]) -> None:
    _, commit = made
    for row in real_rows(commit, "publish", "sequences"):
        times, length = row["times"][: row["length"]], row["length"]
        gaps = [0, *(after - before for before, after in pairwise(times))]
        later = [sum(gap > 1800 for gap in gaps[place + 1 :]) for place in range(length)]
        assert row["gaps"] == gaps + [0] * (LENGTH - length)
        assert row["sessions"] == [1 + count for count in later] + [0] * (LENGTH - length)


def test_the_histories_of_a_backtest_have_its_own_folds(made: tuple[Shop, Commit]) -> None:
    shop, commit = made
    own = Cuts(*[commit.facts["backtests"]["backtest-2"][name] for name in ("valid_end", "valid_start", "valid_end")])
    for row in refolded(shop.table("histories"), own).collect():
        assert row["folds"] == [(time >= seconds(EARLIEST)) + (time >= seconds(VALID)) for time in row["times"]]


def test_cold_items_and_who_wanted_them_are_kept_apart(made: tuple[Shop, Commit]) -> None:
    shop, commit = made
    index = {row["item_id"]: row["item_index"] for row in shop.table("item_ids").collect()}
    expected, wanted = [], []
    for fold, (start, end) in enumerate([(VALID, TEST), (TEST, AS_OF)], 1):
        old = {item for _, item, _, time in BEFORE + AFTER if time < start}
        window = [event for event in sorted(BEFORE + AFTER, key=lambda event: event[3]) if start <= event[3] < end]
        new = [event for event in window if event[1] not in old]
        for item in {event[1] for event in new}:
            own = [event for event in new if event[1] == item]
            users = {event[0] for event in own}
            expected.append((fold, index[item], item, len(own), len(users), seconds(min(event[3] for event in own))))
        for user in {event[0] for event in new}:
            items = [index[item] for own, item, kind, _ in new if own == user and kind == "purchase"]
            wanted += [(fold, user, list(dict.fromkeys(items)))] if items else []
    assert {(1, "new1", 3, 2), (2, "new2", 1, 1)} <= {(row[0], *row[2:5]) for row in expected}
    assert sorted(map(tuple, shop.table("cold_items").collect())) == sorted(expected)
    targets = shop.table("cold_targets").select("fold", "user_id", "items").collect()
    assert sorted(map(tuple, targets)) == sorted(wanted)
    for fold, name in enumerate(("valid", "test"), 1):
        told = commit.facts["folds"][name]
        assert told["cold_items"] == sum(row[0] == fold for row in expected)
        assert told["cold_users"] == sum(row[0] == fold for row in wanted)


def test_leave_one_out_holds_out_the_last_two_events_and_decays_from_the_newest_it_learns_from(
    spark: SparkSession, tmp_path: Path
) -> None:
    days = [0, 10, 30, 40]
    events = [("u", f"i{day}", "purchase", START + timedelta(days=day)) for day in days]
    _, commit = built(
        spark,
        tmp_path,
        [*events, ("other", "i0", "purchase", START)],
        split={"strategy": "leave_one_out"},
        datasets={**SETTINGS["datasets"], "half_life_days": 10},
    )
    code = codes(commit, "select")
    assert code == {"i0": 0, "i10": 1}
    weights = {row["item"]: row["weight"] for row in real_rows(commit, "select", "matrix")}
    assert weights == pytest.approx({0: 0.5, 1: 1.0})
    weights = {(row["user_index"], row["item"]): row["weight"] for row in real_rows(commit, "publish", "matrix")}
    assert weights == pytest.approx({(2, 0): 1 / 16, (2, 1): 1 / 8, (2, 2): 1 / 2, (2, 3): 1, (1, 0): 1 / 16})
    assert commit.facts["valid_start"] is None


@pytest.mark.parametrize(
    ("fit", "start", "end"),
    [("select", VALID, TEST), ("backtest-2", EARLIEST, EARLIEST + timedelta(days=14))],
)
def test_valid_users_have_their_last_train_events_and_what_they_bought_in_the_valid_window(
    made: tuple[Shop, Commit], fit: str, start: datetime, end: datetime
) -> None:
    shop, commit = made
    names, code = user_names(shop), codes(commit, fit)
    train, all_ = expected_histories(start), expected_histories(end)
    rows = real_rows(commit, fit, "valid")
    assert len(rows) == 6
    for row in rows:
        user = names[row["user_index"]]
        tokens = [code[item] + 1 for _, item, _, _ in train[user]][-LENGTH:]
        assert row["items"][: row["length"]] == tokens
        bought = [item for _, item, kind, _ in all_[user][len(train[user]) :] if kind == "purchase" and item in code]
        assert row["targets"][: row["target_count"]] == [code[item] + 1 for item in dict.fromkeys(bought)]
        assert not any(row["targets"][row["target_count"] :])


@pytest.mark.parametrize("world_size", [1, 2])
def test_workers_together_read_each_real_row_once(made: tuple[Shop, Commit], world_size: int) -> None:
    _, commit = made
    for fit, name in [("select", "matrix"), ("select", "sequences"), ("select", "valid"), ("publish", "sequences")]:
        path = commit.path("datasets") / fit / name
        columns = pq.read_schema(next(path.glob("*.parquet"))).names
        read = [
            {column: batch[column][place].tolist() for column in columns}
            for rank in range(world_size)
            for batch in batches(path, columns, 5, rank=rank, world_size=world_size, seed=7, epoch=1)
            for place in range(len(batch["row_weight"]))
            if batch["row_weight"][place] == 1
        ]
        assert sorted(map(repr, read)) == sorted(map(repr, real_rows(commit, fit, name)))
        files = sorted(path.glob("*"))
        assert [file.name for file in files] == [f"part-{number:05d}.parquet" for number in range(4)]
        assert len({pq.read_metadata(file).num_rows for file in files}) == 1
        assert {pq.read_metadata(file).num_row_groups for file in files} == {1}


def poisoned(spark: SparkSession, folder: Path, start: datetime, **built_as: Any) -> Commit:
    """The shop with other events from `start` on, in other buckets and partitions."""
    after = [event for event in BEFORE + AFTER if event[3] >= start]
    poison = [("stranger", "poison", "purchase", time) for *_, time in after] + log(9, start, AS_OF, 12)
    before = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", "3")
    try:
        kept = [event for event in BEFORE + AFTER if event[3] < start]
        split = {**SETTINGS["split"], "backtests": 2, "backtest_step_days": 7}
        return built(spark, folder, kept + poison, split=split, **built_as)[1]
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", str(before))


def assert_same_bytes(left: Path, right: Path) -> None:
    files = sorted(path.relative_to(left) for path in left.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(right) for path in right.rglob("*") if path.is_file())
    assert len(files) == 2 + 3 * 4
    for file in files:
        assert (left / file).read_bytes() == (right / file).read_bytes(), file


def test_poisoned_events_after_the_test_start_change_no_byte_of_the_select_datasets(
    spark: SparkSession, made: tuple[Shop, Commit], tmp_path: Path
) -> None:
    _, clean = made
    other = poisoned(spark, tmp_path, TEST, buckets=5)
    assert_same_bytes(clean.path("datasets") / "select", other.path("datasets") / "select")
    assert clean.facts["versions"]["select"] == other.facts["versions"]["select"]
    assert clean.facts["versions"]["publish"] != other.facts["versions"]["publish"]


def test_poisoned_events_after_its_valid_window_change_no_byte_of_the_earliest_backtest(
    spark: SparkSession, made: tuple[Shop, Commit], tmp_path: Path
) -> None:
    _, clean = made
    other = poisoned(spark, tmp_path, EARLIEST + timedelta(days=14), buckets=2, daily=True)
    assert_same_bytes(clean.path("datasets") / "backtest-2", other.path("datasets") / "backtest-2")
    same = {fit for fit, version in clean.facts["versions"].items() if other.facts["versions"][fit] == version}
    assert same == {"backtest-2"}


def test_the_facts_say_where_the_cuts_are(made: tuple[Shop, Commit]) -> None:
    _, commit = made
    assert commit.facts["cut_times"] == {
        "select": seconds(VALID),
        "test": seconds(TEST),
        "publish": seconds(AS_OF),
        "backtest-1": seconds(VALID - timedelta(days=7)),
        "backtest-2": seconds(EARLIEST),
    }
    assert commit.facts["backtests"]["backtest-2"] == {
        "valid_start": seconds(EARLIEST),
        "valid_end": seconds(VALID),
    }
    assert (commit.facts["valid_start"], commit.facts["test_start"]) == ("2024-02-06T00:00:00", "2024-02-20T00:00:00")
    described = json.loads((commit.path("datasets") / "select" / "dataset.json").read_text())
    assert described["folds"] == [0]
    assert described["valid_window"] == [seconds(VALID), seconds(TEST)]
    assert described["version"] == commit.facts["versions"]["select"]


def test_a_log_of_which_every_event_weighs_nothing_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    events = [("u", "i", "gift", time) for time in (START, VALID, TEST)]
    with pytest.raises(
        UserError, match=r"every event that select learns from weighs 0: .*purchase 1, .*map them to other, view"
    ):
        built(spark, tmp_path, events)


@pytest.mark.parametrize(
    ("heavy", "lighter"), [((0, 0), None), ((0, 2), "select"), ((1, 0), "select")], ids=["train", "test", "backtest"]
)
def test_weights_are_asked_of_the_folds_that_a_fit_learns_from(heavy: tuple[int, int], lighter: str | None) -> None:
    bounds = Cuts(as_of=30, valid_start=10, test_start=20)
    chosen = [Plan("select", 0, bounds, (0,), 10), Plan("publish", 0, bounds, (0, 1, 2), 30)]
    told = {
        (f"fold-{origin}", fold): {"heaviest": float((origin, fold) == heavy)} for origin in (0, 1) for fold in range(3)
    }
    if lighter is None:
        build._require_weights(Config.model_validate(SETTINGS), chosen, told)
        chosen.append(Plan("backtest-1", 1, bounds, (0,), 10))
        lighter = "backtest-1"
    with pytest.raises(UserError, match=f"every event that {lighter} learns from weighs 0"):
        build._require_weights(Config.model_validate(SETTINGS), chosen, told)


def test_the_version_follows_the_settings(tmp_path: Path) -> None:
    vocabulary = tmp_path / "vocabulary.parquet"
    vocabulary.write_bytes(b"")
    one = Config.model_validate(SETTINGS)
    other = Config.model_validate({**SETTINGS, "seed": 21})
    version = build.dataset_version(one, "select", [1], vocabulary, 5)
    assert version == build.dataset_version(one, "select", [1], vocabulary, 5)
    assert version != build.dataset_version(other, "select", [1], vocabulary, 5)
    assert version != build.dataset_version(one, "select", [2], vocabulary, 5)

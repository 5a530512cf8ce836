from __future__ import annotations

import json
import random
from collections import defaultdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config import Config
from recsys_spark.datasets import build
from recsys_spark.datasets.histories import histories
from recsys_spark.datasets.loader import batches
from recsys_spark.datasets.split import Cuts
from recsys_spark.errors import UserError
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.features import build as features
from recsys_spark.pipeline.stage import StageContext, StageResult
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.schemas import TABLES
from tests.stages import Shop

START = datetime(2024, 1, 1)
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
Event = tuple[str, str, str, datetime]


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


BEFORE = log(1, START, TEST, 12)
AFTER = log(2, TEST, AS_OF, 12)


def built(spark: SparkSession, folder: Path, events: list[Event], **settings: Any) -> tuple[Shop, Commit]:
    shop = Shop(spark, folder, **{**SETTINGS, **settings})

    def clean(context: StageContext) -> StageResult:
        rows = [
            (user, item, kind, time, None, None, None, "log.csv", time.date(), place)
            for place, (user, item, kind, time) in enumerate(events)
        ]
        context.write_table("clean_events", spark.createDataFrame(rows, TABLES["clean_events"].schema))
        return StageResult()

    shop.run("clean_events", clean)
    shop.run("build_features", features.run, as_of=AS_OF)
    return shop, shop.run("build_datasets", build.run, as_of=AS_OF)


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Commit]:
    return built(spark, tmp_path_factory.mktemp("made"), BEFORE + AFTER)


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


@pytest.mark.parametrize(("fit", "until"), [("select", VALID), ("publish", AS_OF)])
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


@pytest.mark.parametrize(("fit", "until"), [("select", VALID), ("publish", AS_OF)])
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


def test_valid_users_have_their_last_train_events_and_what_they_bought_in_the_valid_window(
    made: tuple[Shop, Commit],
) -> None:
    shop, commit = made
    names, code = user_names(shop), codes(commit, "select")
    train, all_ = expected_histories(VALID), expected_histories(TEST)
    rows = real_rows(commit, "select", "valid")
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


def test_poisoned_events_after_the_test_start_change_no_byte_of_the_select_datasets(
    spark: SparkSession, made: tuple[Shop, Commit], tmp_path: Path
) -> None:
    _, clean = made
    poison = [("stranger", "poison", "purchase", time) for *_, time in AFTER] + log(9, TEST, AS_OF, 12)
    before = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", "3")
    try:
        _, poisoned = built(spark, tmp_path, BEFORE + poison)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", str(before))
    left, right = (commit.path("datasets") / "select" for commit in (clean, poisoned))
    files = sorted(path.relative_to(left) for path in left.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(right) for path in right.rglob("*") if path.is_file())
    assert len(files) == 2 + 3 * 4
    for file in files:
        assert (left / file).read_bytes() == (right / file).read_bytes(), file
    assert clean.facts["versions"]["select"] == poisoned.facts["versions"]["select"]
    assert clean.facts["versions"]["publish"] != poisoned.facts["versions"]["publish"]


def test_the_facts_say_where_the_cuts_are(made: tuple[Shop, Commit]) -> None:
    _, commit = made
    assert commit.facts["cut_times"] == {"select": seconds(VALID), "test": seconds(TEST), "publish": seconds(AS_OF)}
    assert (commit.facts["valid_start"], commit.facts["test_start"]) == ("2024-02-06T00:00:00", "2024-02-20T00:00:00")
    described = json.loads((commit.path("datasets") / "select" / "dataset.json").read_text())
    assert described["folds"] == [0]
    assert described["version"] == commit.facts["versions"]["select"]


def test_a_log_of_which_every_event_weighs_nothing_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    events = [("u", "i", "gift", time) for time in (START, VALID, TEST)]
    with pytest.raises(UserError, match=r"every event weighs 0: .*purchase 1, .*map them to other, view"):
        built(spark, tmp_path, events)


def test_a_household_that_buys_a_hundred_items_in_the_valid_window_keeps_them_all_as_targets(
    spark: SparkSession, tmp_path: Path
) -> None:
    bought = [("u", f"i{number:03d}", "purchase", START) for number in range(100)]
    again = [(user, item, kind, VALID + timedelta(minutes=place)) for place, (user, item, kind, _) in enumerate(bought)]
    _, commit = built(spark, tmp_path, [*bought, *again, ("u", "i001", "purchase", TEST)])
    (row,) = real_rows(commit, "select", "valid")
    assert row["target_count"] == 100
    assert row["targets"] == [*range(1, 101), *[0] * (len(row["targets"]) - 100)]
    path = commit.path("datasets") / "select" / "valid"
    (read,) = [batch for batch in batches(path, ["targets"], 4) if batch["targets"].any()]
    assert read["targets"].max() == 100


def test_the_version_follows_the_settings(tmp_path: Path) -> None:
    vocabulary = tmp_path / "vocabulary.parquet"
    vocabulary.write_bytes(b"")
    one = Config.model_validate(SETTINGS)
    other = Config.model_validate({**SETTINGS, "seed": 21})
    version = build.dataset_version(one, "select", [1], vocabulary)
    assert version == build.dataset_version(one, "select", [1], vocabulary)
    assert version != build.dataset_version(other, "select", [1], vocabulary)
    assert version != build.dataset_version(one, "select", [2], vocabulary)


def test_ties_in_time_are_broken_by_the_place_in_the_file(spark: SparkSession) -> None:
    noon = datetime(2024, 1, 1, 12)
    rows = [
        ("u", f"i{place}", "purchase", noon, None, None, None, file, date(2024, 1, 1), place)
        for file, place in [("b", 1), ("a", 10), ("a", 9), ("a", 2)]
    ]
    events = spark.createDataFrame(rows, TABLES["clean_events"].schema)
    items = spark.createDataFrame([(f"i{place}", place) for place in (1, 2, 9, 10)], TABLES["item_ids"].schema)
    users = spark.createDataFrame([("u", 1)], TABLES["user_ids"].schema)
    row = histories(events, items, users, {}, Cuts(as_of=seconds(noon) + 1)).first()
    assert row is not None
    assert list(zip(row["items"], row["folds"], strict=True)) == [(2, 0), (9, 0), (10, 1), (1, 2)]

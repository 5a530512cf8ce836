from __future__ import annotations

import json
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import UserError
from recsys_spark.events.types import EVENT_TYPES
from recsys_spark.features import fit
from recsys_spark.features.apply import ITEM_TABLES, apply_items, apply_users
from recsys_spark.features.fitted import FittedFeatures, read_version
from recsys_spark.pipeline.stage import StageContext, StageResult
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.schemas import TABLES
from tests.stages import Shop

START, VALID, TEST, AS_OF = (datetime(2024, *day) for day in ((1, 1), (2, 6), (2, 20), (3, 1)))
KINDS = {"Tea": "green leaf", "Coffee": "dark roast", "Cheese": "aged milk", "Bread": "rye flour"}
SETTINGS: dict[str, Any] = {
    "source": {
        "format": "csv",
        "path": "unused",
        "columns": {"user_id": "u", "item_id": "i", "event_time": "t", "price": "p"},
        "event_type": "purchase",
    },
}
FEATURES = {
    "price_bands": 4,
    "max_tokens": 6,
    "max_subwords": 5,
    "keywords": 2,
    "word2vec": {"dim": 8, "min_count": 2},
}
Event = tuple[str, str, datetime, float]
Item = tuple[str, str, str, str, str]


def catalogue(prefix: str, count: int, noise: str = "") -> list[Item]:
    kinds = list(KINDS.items())
    return [
        (
            f"{prefix}{n:02d}",
            f"{kinds[n % 4][0]} no{n} {noise}",
            kinds[n % 4][1],
            kinds[n % 4][0] + noise,
            f"brand{n % 3}{noise}",
        )
        for n in range(count)
    ]


def log(seed: int, items: list[Item], first: datetime, last: datetime) -> list[Event]:
    draw = random.Random(seed)
    minutes = int((last - first).total_seconds()) // 60
    events = []
    for _ in range(300):
        user = draw.randrange(12)
        item = draw.choice([number for number in range(len(items)) if number % 4 == user % 4])  # each likes one kind
        time = first + timedelta(minutes=draw.randrange(minutes))
        events.append((f"u{user:02d}", items[item][0], time, 1.0 + item))
    return sorted(events, key=lambda event: event[2])


ITEMS = catalogue("i", 24)
BEFORE = log(1, ITEMS, START, VALID)


def seconds(time: datetime) -> int:
    return int(time.replace(tzinfo=UTC).timestamp())


def fitted_shop(spark: SparkSession, folder: Path, later: list[Item], seed: int) -> tuple[Shop, Commit]:
    """A shop whose time before VALID is always the same, and `later` items and events are not."""
    (folder / "bert").mkdir()
    (folder / "bert" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\ntea\ngreen\n##s\nno\n##1\n")
    (folder / "people.csv").write_text("id,age\nu05,30\nnobody,40\n")
    people = {"format": "csv", "path": f"{folder}/people.csv", "options": {"header": "true"}}
    shop = Shop(
        spark,
        folder,
        **SETTINGS,
        features={**FEATURES, "tokenizer": f"{folder}/bert"},
        demographics={**people, "columns": {"user_id": "id", "age": "age"}},
    )
    every = ITEMS + later
    events = BEFORE + log(seed, every, VALID, AS_OF)
    first = {item: min(time for _, own, time, _ in events if own == item) for item in {event[1] for event in events}}
    # Ids follow the day of the first event, as build_features gives them.
    number = {item: n + 1 for n, item in enumerate(sorted(first, key=lambda item: (first[item].date(), item)))}
    number |= {item: len(number) + n + 1 for n, item in enumerate(own[0] for own in every if own[0] not in number)}

    def clean(context: StageContext) -> StageResult:
        rows = [(u, i, "purchase", t, None, p, None, "log", t.date(), n, None) for n, (u, i, t, p) in enumerate(events)]
        context.write_table("clean_events", spark.createDataFrame(rows, TABLES["clean_events"].schema))
        return StageResult()

    def features(context: StageContext) -> StageResult:
        rows = [(number[i], i, t, d, c, b, None, first[i].date() if i in first else None) for i, t, d, c, b in every]
        context.write_table("items", spark.createDataFrame(rows, TABLES["items"].schema))
        return StageResult()

    def datasets(context: StageContext) -> StageResult:
        users: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            users[event[0]].append(event)
        bought = EVENT_TYPES.index("purchase")
        rows = []
        for n, (user, own) in enumerate(sorted(users.items())):
            folds = [(time >= VALID) + (time >= TEST) for _, _, time, _ in own]
            times = [seconds(time) for _, _, time, _ in own]
            rows.append(
                (n + 1, user, [number[i] for _, i, _, _ in own], [bought] * len(own), [1.0] * len(own), times, folds)
            )
        context.write_table("histories", spark.createDataFrame(rows, TABLES["histories"].schema).repartition(2))
        cut_times = {"select": seconds(VALID), "test": seconds(TEST), "publish": seconds(AS_OF)}
        facts = {"cut_times": cut_times, "valid_start": VALID.isoformat(), "test_start": TEST.isoformat()}
        return StageResult(facts=facts)

    shop.run("clean_events", clean, as_of=AS_OF)
    shop.run("build_features", features, as_of=AS_OF)
    shop.run("build_datasets", datasets, as_of=AS_OF)
    return shop, shop.run("fit_features", fit.run, as_of=AS_OF)


LATER = catalogue("j", 8, noise="novelty")


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Commit]:
    return fitted_shop(spark, tmp_path_factory.mktemp("made"), LATER, seed=2)


def rows_of(commit: Commit, table: str, fit: str) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(commit.path(table)).to_pylist()
    return {row[TABLES[table].key[1]]: row for row in rows if row["fit"] == fit}


def files(commit: Commit, fit: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (commit.path("features") / fit).iterdir()}


def test_poisoned_events_and_items_from_the_valid_start_on_change_no_byte_of_select(
    spark: SparkSession, made: tuple[Shop, Commit], tmp_path: Path
) -> None:
    _, clean = made
    poison = catalogue("a", 30, noise="poison")
    before = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", "5")
    try:
        _, poisoned = fitted_shop(spark, tmp_path, poison, seed=99)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", str(before))
    assert set(files(clean, "select")) == {
        "fitted.json",
        "text.json",
        "codes.json",
        "items.json",
        "subwords.json",
        "vectors.safetensors",
        "manifest.json",
    }
    assert files(clean, "select") == files(poisoned, "select")
    assert clean.facts["versions"]["select"] == poisoned.facts["versions"]["select"]
    assert clean.facts["versions"]["publish"] != poisoned.facts["versions"]["publish"]
    assert b"poison" not in b"".join(files(poisoned, "select").values())
    assert b"poison" in files(poisoned, "publish")["text.json"]
    ids = [item[0] for item in ITEMS]
    for table in ITEM_TABLES:
        left, right = (rows_of(commit, table, "select") for commit in (clean, poisoned))
        assert [left[item] for item in ids] == [right[item] for item in ids], table
    left, right = (rows_of(commit, "user_features", "select") for commit in (clean, poisoned))
    assert left == right


@pytest.mark.slow
def test_two_runs_give_equal_bytes(made: tuple[Shop, Commit]) -> None:
    shop, first = made
    second = shop.run("fit_features", fit.run, as_of=AS_OF, run_id="again")
    assert second.directory != first.directory
    for name in ("select", "publish"):
        assert files(first, name) == files(second, name)
    assert not (Path(second.directory) / "scratch").exists()


def test_every_item_is_described_by_what_the_fit_knew(made: tuple[Shop, Commit]) -> None:
    _, commit = made
    fitted = FittedFeatures.load(commit.path("features") / "select")
    assert fitted.vocabulary.documents == len({item for _, item, _, _ in BEFORE}) == 24
    assert fitted.categories.values == ("bread", "cheese", "coffee", "tea")  # six items each: by name
    assert fitted.brands.values == ("brand0", "brand1", "brand2")
    assert fitted.price_edges.tolist() == [6.75, 12.5, 18.25]  # quartiles of the prices 1 .. 24
    features = rows_of(commit, "item_features", "select")
    assert len(features) == len(ITEMS) + len(LATER)
    own = [event for event in BEFORE if event[1] == "i05"]
    row = features["i05"]
    assert (row["category_code"], row["brand_code"], row["price_band"], row["price"]) == (3, 3, 1, 6.0)
    assert (row["events"], row["users"]) == (len(own), len({event[0] for event in own}))
    assert row["first_seen"] == own[0][2].date()
    assert row["age_days"] == (VALID - own[0][2]).days
    new = features["j01"]
    assert (new["category_code"], new["brand_code"], new["price_band"], new["price"]) == (0, 0, 0, None)
    assert (new["events"], new["users"], new["first_seen"], new["age_days"]) == (0, 0, None, None)
    sold = rows_of(commit, "item_features", "publish")["j01"]
    assert sold["category_code"] > 0
    assert sold["events"] > 0

    def text(item: str) -> list[str]:
        tokens = rows_of(commit, "item_tokens", "select")[item]["tokens"]
        return [{0: "", 1: "?"}.get(token) or fitted.vocabulary.tokens[token - 2] for token in tokens]

    assert text("i01") == ["coffee", "no1", "dark", "roast", "coffee", "brand1"]
    assert text("j04") == ["tea", "no4", "?", "green", "leaf", "?"]
    keywords = rows_of(commit, "item_keywords", "select")
    assert keywords["i01"]["keywords"] == ["no1", "coffee"] or keywords["i01"]["keywords"] == ["coffee", "no1"]
    assert np.linalg.norm(keywords["i01"]["tfidf_weights"]) == pytest.approx(1)
    assert len(keywords["i01"]["tfidf_tokens"]) == 5


def test_an_item_that_was_never_sold_lies_beside_its_like_by_its_text(made: tuple[Shop, Commit]) -> None:
    _, commit = made
    vectors = rows_of(commit, "item_vectors", "select")
    ids = [item[0] for item in ITEMS]
    by_text = np.array([vectors[item]["text_vector"] for item in ids])
    near = by_text @ np.array(vectors["j01"]["text_vector"])
    assert {ids[place] for place in np.argsort(-near)[:6]} == {f"i{n:02d}" for n in range(1, 24, 4)}
    assert vectors["j01"]["sequence_vector"] is None
    by_history = np.array([vectors[item]["sequence_vector"] for item in ids])
    near = by_history @ by_history.T
    kind = np.arange(24) % 4
    assert near[kind[:, None] == kind].mean() > 0.5 > near[kind[:, None] != kind].mean() + 0.3


def test_new_items_are_described_without_refitting_and_move_nothing(
    spark: SparkSession, made: tuple[Shop, Commit]
) -> None:
    _, commit = made
    directory = commit.path("features") / "select"
    before = files(commit, "select")
    rows = [
        (901, "new", "Tea spaceship", None, "Gadgets", None, 3.0),
        (902, "blank", "blank", None, None, None, None),
        (5, "i05", *ITEMS[5][1:], 6.0),
    ]
    columns = (
        "item_index int, item_id string, title string, description string, category string, brand string, price double"
    )
    found = {row["item_id"]: row for row in apply_items(directory, spark.createDataFrame(rows, columns)).collect()}
    fitted = FittedFeatures.load(directory)
    assert found["new"]["tokens"] == [fitted.vocabulary.ids["tea"], 1, 1, 0, 0, 0]
    assert found["new"]["keywords"] == ["tea"]
    assert found["new"]["subwords"] == [2, 4, 1, 1, 3]  # [CLS] tea [UNK] [UNK] [SEP]
    assert (found["new"]["category_code"], found["new"]["brand_code"], found["new"]["price_band"]) == (0, 0, 1)
    assert found["new"]["text_vector"] == pytest.approx(fitted.token_vectors[fitted.vocabulary.ids["tea"]].tolist())
    assert found["blank"]["tokens"] == [0] * 6
    assert found["blank"]["text_vector"] is None
    assert (found["blank"]["keywords"], found["blank"]["price_band"]) == ([], 0)
    own = found["i05"].asDict()
    for table in ITEM_TABLES:
        stored = rows_of(commit, table, "select")["i05"]
        shared = [name for name in stored if name in own and name != "item_index"]
        assert [own[name] for name in shared] == [stored[name] for name in shared], table
    assert files(commit, "select") == before


def test_items_without_an_index_are_described_as_the_manual_shows(
    spark: SparkSession, made: tuple[Shop, Commit], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, commit = made
    monkeypatch.chdir(commit.path("features"))  # where Spark's workers are not
    columns = "item_id string, title string, description string, category string, brand string, price double"
    new_items = spark.createDataFrame([("new", "Tea spaceship", None, None, None, None)], columns)
    described = apply_items(Path("publish"), new_items)
    assert described.columns[:2] == ["item_id", "tokens"]
    (row,) = described.collect()
    assert (row["item_id"], row["keywords"], row["sequence_vector"]) == ("new", ["tea"], None)


def test_users_are_described_at_the_cut_and_new_ones_like_any_other(
    spark: SparkSession, made: tuple[Shop, Commit]
) -> None:
    _, commit = made
    users = rows_of(commit, "user_features", "select")
    own = [event for event in BEFORE if event[0] == "u05"]
    days = sorted({time.date() for _, _, time, _ in own})
    row = users["u05"]
    assert (row["events"], row["target_events"], row["active_days"]) == (len(own), len(own), len(days))
    assert row["recency_days"] == pytest.approx((VALID - own[-1][2]) / timedelta(days=1), rel=1e-6)
    assert row["mean_gap_days"] == pytest.approx((days[-1] - days[0]).days / (len(days) - 1))
    assert (row["categories"], row["category_shares"]) == ([3], [1.0])  # likes coffee
    assert (dict(row["attributes"]), users["u06"]["attributes"]) == ({"age": "30"}, None)
    columns = TABLES["histories"].schema
    purchase = EVENT_TYPES.index("purchase")
    stranger = [(77, "new", [1, 5000], [purchase] * 2, [1.0] * 2, [seconds(AS_OF) - 86_400, seconds(AS_OF)], [0, 0])]
    (found,) = apply_users(
        [commit.path("features") / "publish"],
        spark.createDataFrame(stranger, columns),
        commit.path("item_features"),
        cut=seconds(AS_OF),
        folds=(0, 1, 2),
    ).collect()
    assert (found["fit"], found["user_id"], found["events"], found["recency_days"]) == ("publish", "new", 1, 1.0)


def test_a_changed_missing_or_extra_file_is_refused(made: tuple[Shop, Commit], tmp_path: Path) -> None:
    _, commit = made
    source = commit.path("features") / "select"

    def copied(name: str) -> Path:
        (tmp_path / name).mkdir()
        for path in source.iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
        return tmp_path / name

    whole = copied("whole")
    assert (
        FittedFeatures.load(whole).save(tmp_path / "again") == commit.facts["versions"]["select"] == read_version(whole)
    )
    changed = copied("changed")
    (changed / "codes.json").write_text((changed / "codes.json").read_text().replace("tea", "tee"))
    with pytest.raises(UserError, match=r"codes\.json changed since it was written; run fit_features again"):
        FittedFeatures.load(changed)
    extra = copied("extra")
    (extra / "more.json").write_text("{}")
    with pytest.raises(UserError, match=r"more\.json changed"):
        FittedFeatures.load(extra)
    forged = copied("forged")
    manifest = json.loads((forged / "manifest.json").read_text())
    (forged / "manifest.json").write_text(json.dumps({**manifest, "version": "0"}))
    with pytest.raises(UserError, match=r"manifest\.json changed"):
        FittedFeatures.load(forged)
    lost = copied("lost")
    (lost / "manifest.json").unlink()
    with pytest.raises(UserError, match="missing or damaged"):
        FittedFeatures.load(lost)

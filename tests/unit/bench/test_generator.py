from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from collections import Counter, defaultdict
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from bench.generator import Files, day_names, generate, write_shard
from bench.log_dirt import KINDS, LINE_RATES, robots_of, soiled
from bench.log_model import CART, CLICK, PURCHASE, STEPS, VIEW, LogSpec, Market, customer_events
from bench.log_text import COLUMNS, Texts, lines
from recsys_spark.config import load_config

SMALL = LogSpec(events=2000, days=10)


def written(spec: LogSpec, files: Files, shards: list[int]) -> Counter[str]:
    for name in day_names(spec):
        (files.out / "events" / name).mkdir(parents=True)
    truth: Counter[str] = Counter()
    for shard in shards:
        truth.update(write_shard(spec, Market(spec), shard, files))
    return truth


def hashes(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((out / "events").rglob("part-*"))
    }


def csv_rows(out: Path) -> list[tuple[date, dict[str, str]]]:
    """Rows of a log without broken lines, with the day of their folder."""
    return [
        (date.fromisoformat(path.parent.name), row)
        for path in sorted((out / "events").rglob("*.csv"))
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    ]


def test_the_same_seed_gives_the_same_files_in_spark_and_without_it_and_another_seed_others(
    spark: SparkSession, tmp_path: Path
) -> None:
    spec = LogSpec(events=120_000, days=4)
    assert spec.shards == 3
    truth = generate(spark, spec, Files(tmp_path / "spark"))
    alone = written(spec, Files(tmp_path / "alone"), [2, 0, 1])
    assert hashes(tmp_path / "alone") == hashes(tmp_path / "spark")
    assert alone.items() <= truth.items()
    assert truth["events"] == 120_000
    told = json.loads((tmp_path / "spark" / "truth.json").read_text())
    assert (told["truth"], told["spec"]["seed"]) == (truth, 20)
    other = LogSpec(events=120_000, days=4, seed=21)
    written(other, Files(tmp_path / "other"), [0])
    assert hashes(tmp_path / "other").items().isdisjoint(hashes(tmp_path / "spark").items())


def test_a_clean_log_has_the_rows_asked_for_in_the_file_of_their_day_and_in_order_of_time(tmp_path: Path) -> None:
    spec = LogSpec(events=2000, days=10, dirty=0)
    truth = written(spec, Files(tmp_path), [0])
    rows = csv_rows(tmp_path)
    assert len(rows) == truth["rows"] == truth["events"] == sum(truth[step] for step in STEPS) == 2000
    assert Counter(row["event_type"] for _, row in rows) == {step: truth[step] for step in STEPS}
    assert all(datetime.fromisoformat(row["event_time"]).date() == day for day, row in rows)
    assert [row["event_time"] for _, row in rows] == sorted(row["event_time"] for _, row in rows)
    assert sum(truth[name] for name in KINDS if name) == truth["robot"] == truth["late"] == truth["return"] == 0
    for _, row in rows:
        assert float(row["price"]) > 0
        assert bool(row["quantity"]) == (row["event_type"] in ("add_to_cart", "purchase"))
        assert bool(row["order_id"]) == (row["event_type"] == "purchase")


def test_every_step_of_the_funnel_follows_the_one_before_and_fewer_take_it() -> None:
    spec = LogSpec(events=20_000, days=10)
    events = customer_events(spec, Market(spec), 0)
    steps = np.bincount(events.step_E, minlength=4)
    assert steps[VIEW] > steps[CLICK] > steps[CART] > steps[PURCHASE] > 0
    first: dict[tuple[int, int, int], int] = defaultdict(lambda: 10**9)
    columns = (events.user_E, events.item_E, events.step_E, events.time_E)
    for user, item, step, time in zip(*(column.tolist() for column in columns), strict=True):
        first[user, item, step] = min(first[user, item, step], time)
    assert all(first[user, item, step - 1] < time for (user, item, step), time in list(first.items()) if step)


def test_items_sell_by_zipfs_law_and_consumables_are_bought_again_after_their_interval() -> None:
    spec = LogSpec(events=50_000, days=60, users=500, items=1000)
    market = Market(spec)
    events = customer_events(spec, market, 0)
    counts = np.sort(np.bincount(events.item_E, minlength=1000))[::-1]
    # Under a uniform law the top 1 % would have 1 % of the events; under Zipf's with 1,000 items about 39 %.
    assert 0.15 < counts[:10].sum() / counts.sum() < 0.6
    ranks = np.arange(5, 200)
    slope = np.polyfit(np.log(ranks), np.log(counts[ranks]), 1)[0]
    assert -1.5 < slope < -0.6
    bought = events.take(events.step_E == PURCHASE)
    last: dict[tuple[int, int], int] = {}
    ratios = []
    for place in np.argsort(bought.time_E):
        key = (int(bought.user_E[place]), int(bought.item_E[place]))
        if key in last and market.interval_I[key[1]]:
            ratios.append((bought.time_E[place] - last[key]) / 86_400 / market.interval_I[key[1]])
        last[key] = int(bought.time_E[place])
    assert len(ratios) > 100
    assert 0.8 < np.median(ratios) < 1.2


def test_new_items_come_over_time_and_popularity_moves() -> None:
    market = Market(LogSpec(events=50_000, days=30, items=1000))
    young = market.launch_I > 20
    shares = [np.diff(market.interest(day))[young].sum() / market.interest(day)[-1] for day in (0, 29)]
    assert shares[0] < 1e-6 < 0.01 < shares[1]
    first, last = (np.argsort(-np.diff(market.interest(day)))[:50] for day in (0, 29))
    assert 0 < len(set(first) & set(last)) < 50


def test_what_was_spoilt_is_counted_and_adds_up(tmp_path: Path) -> None:
    spec = LogSpec(events=20_000, days=10, dirty=5)
    market = Market(spec)
    rows = soiled(spec, market, 0, customer_events(spec, market, 0))
    truth = rows.truth
    extra = ("return", "robot", "exact_duplicate", "near_duplicate")
    assert truth["rows"] == truth["events"] + sum(truth[name] for name in extra)
    assert all(truth[name] > 0 for name in KINDS if name)
    # About their rates: 0.4 % x 5 of 20,000 rows, and 1 % x 5 late ones of which the last days' come in time.
    assert 300 < truth["exact_duplicate"] < 500
    assert 500 < truth["late"] < 1300
    robots, each = robots_of(spec)
    assert truth["robot"] == robots * each or spec.shards > 1
    whole = b"".join(lines(Texts(spec, market, 0, rows), "csv").to_pylist())
    assert whole.count(b"\n") == truth["rows"]
    assert whole.count(b"\xff\xfe") == truth["bad_bytes"]
    assert whole.count(b",twelve,") == truth["bad_price"]
    assert whole.count(b",wishlist,") == truth["unknown_type"]
    assert whole.count(b'\n"') + whole.startswith(b'"') == truth["broken_quote"]
    good = [line.split(b",") for line in whole.splitlines() if line.count(b",") == 6]
    assert len(good) == truth["rows"] - truth["cut_line"]
    assert sum(not line[1] for line in good) == truth["missing_user"]
    assert sum(line[4].startswith(b"-") for line in good) == truth["return"]
    assert sum(line[0].startswith((b"2093", b'"2093')) for line in good) == truth["future_time"]
    assert sum(not re.fullmatch(rb"I\d{7}|", line[2]) for line in good) == truth["item_spelling"] + truth["bad_bytes"]


def test_late_rows_lie_in_the_file_of_a_later_day(tmp_path: Path) -> None:
    truth = written(SMALL, Files(tmp_path, "parquet"), [0])
    late = 0
    for path in (tmp_path / "events").rglob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        assert table.column_names == list(COLUMNS)
        for time in table["event_time"].to_pylist():
            if "/" not in time and time[:4] == "2024":
                late += time[:10] < path.parent.name
    assert 0 < late <= truth["late"]
    assert all(truth[name] == 0 for name in LINE_RATES)


@pytest.mark.parametrize("format_", ["csv", "json"])
def test_files_can_be_zipped_and_json_lines_are_json(tmp_path: Path, format_: str) -> None:
    spec = LogSpec(events=500, days=2, dirty=0)
    written(spec, Files(tmp_path, format_, zipped=True), [0])
    text = "".join(
        gzip.decompress(path.read_bytes()).decode() for path in sorted((tmp_path / "events").rglob(f"*.{format_}.gz"))
    )
    if format_ == "csv":
        assert len(text.splitlines()) == 500 + 2  # a header each day
        return
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 500
    assert all(set(row) == set(COLUMNS) and row["price"] > 0 for row in rows)


def test_the_catalogue_names_every_item_and_some_twice_and_the_configurations_are_valid(
    spark: SparkSession, tmp_path: Path
) -> None:
    spec = LogSpec(events=300, days=5, items=400, dirty=5)
    truth = generate(spark, spec, Files(tmp_path))
    with (tmp_path / "catalog.csv").open(encoding="utf-8") as file:
        counts = Counter(row["item_id"] for row in csv.DictReader(file))
    assert len(counts) == 400
    assert sum(count - 1 for count in counts.values()) == truth["catalogue_conflict"] > 0
    for name in ("shop", "daily"):
        config = load_config([str(tmp_path / f"{name}.yaml")], [])
        assert config.source[0].paths == (f"{tmp_path}/events/*/*.csv",)
    assert "arrival" in yaml.safe_load((tmp_path / "daily.yaml").read_text())["source"]

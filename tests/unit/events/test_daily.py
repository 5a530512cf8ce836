"""Daily mode: raw rows land by arrival date, and a day is cleaned from what landed for it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_spark.datasets import build as datasets
from recsys_spark.errors import UserError
from recsys_spark.events import cleaning
from recsys_spark.features import build as features
from tests.stages import Shop

FIRST = date(2024, 3, 1)
HEADER = "time,user,item,type,quantity,price"
RULES = {
    "lateness_days": 2,
    "near_duplicate_seconds": 2,
    "returns": "net",
    "prompt_days": 1,
    "robots": {"events_an_hour": 20},
    "outliers": {"price": True, "min_observations": 5, "days": 7},
}
ALWAYS_FOUND = {"robot", "bad_event_time", "missing_user_id", "return"}


def delivered(day: int, draw: random.Random) -> list[str]:
    """The lines of the file that arrives on a day: its events, some of the days before, some that are no use."""
    lines = []
    for number in range(40):
        delay = draw.choice([0, 0, 0, 0, 1, 2, 5])
        when = datetime.combine(FIRST + timedelta(days=day - delay), time()) + timedelta(seconds=draw.randrange(86400))
        user, item = draw.randrange(6), draw.randrange(4)
        quantity, price = (-1 if draw.random() < 0.1 else draw.randint(1, 3)), 2.0 + item
        if draw.random() < 0.05:
            price *= 1000
        lines.append(f"{when.isoformat()},u{user},i{item},purchase,{quantity},{price}")
        if draw.random() < 0.1:
            lines.append(lines[-1])
        if draw.random() < 0.1:
            lines.append(f"{(when + timedelta(seconds=1)).isoformat()},u{user},i{item},purchase,1,{price}")
        if number == 7:
            lines.append(f"yesterday,u{user},i{item},purchase,1,2.0")
        if number == 8:
            lines.append(f"{when.isoformat()},,i{item},purchase,1,2.0")
    if day % 3 == 1:
        start = datetime.combine(FIRST + timedelta(days=day), time(12))
        lines += [f"{(start + timedelta(seconds=7 * n)).isoformat()},bot,i{n % 4},view,,3.0" for n in range(40)]
    return lines


def deliver(folder: Path, days: Iterable[int]) -> None:
    """Write the files of these days, each in a folder of its own."""
    for day in days:
        at = folder / str(FIRST + timedelta(days=day))
        at.mkdir(parents=True, exist_ok=True)
        lines = delivered(day, random.Random(day))
        (at / "part.csv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")


def shop(spark: SparkSession, root: Path, landing: Path, **changes: Any) -> Shop:
    root.mkdir(parents=True, exist_ok=True)
    source = {
        "format": "csv",
        "path": f"{landing}/*/*.csv",
        "options": {"header": "true"},
        "arrival": {"path_pattern": r"/(\d{4}-\d{2}-\d{2})/"},
        "columns": {
            "user_id": "user",
            "item_id": "item",
            "event_time": "time",
            "event_type": "type",
            "quantity": "quantity",
            "price": "price",
        },
    }
    return Shop(spark, root, source=source, **{"cleaning": RULES, "tables": {"buckets": 2}, **changes})


def until(day: int) -> datetime:
    return datetime.combine(FIRST + timedelta(days=day + 1), time())


def content(shop: Shop) -> tuple[list[Any], list[Any]]:
    """Both tables without run_id, in an order of their own."""
    clean = shop.table("clean_events").collect()
    bad = shop.table("quarantine").drop("run_id").collect()
    return sorted(map(repr, clean)), sorted(map(repr, bad))


def test_single_days_a_backfill_and_one_full_run_give_the_same_tables(spark: SparkSession, tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    deliver(landing, range(3))
    all_at_once, single = (shop(spark, tmp_path / name, landing) for name in ("full", "single"))
    all_at_once.run("clean_events", cleaning.run)
    for day in range(3):
        single.run("clean_events", cleaning.run, as_of=until(day))

    check_that_all_ways_end_alike(all_at_once, single, 3, ALWAYS_FOUND)


@pytest.fixture(scope="module")
def month(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Shop]:
    """The shop after thirty days: by one run, and by a run each day."""
    folder = tmp_path_factory.mktemp("month")
    landing = folder / "landing"
    deliver(landing, range(30))
    split = {"test_days": 5, "valid_days": 5}
    all_at_once, single = (shop(spark, folder / name, landing, split=split) for name in ("full", "single"))
    all_at_once.run("clean_events", cleaning.run)
    all_at_once.run("build_features", features.run, as_of=until(29))
    for day in range(30):
        single.run("clean_events", cleaning.run, as_of=until(day))
        single.run("build_features", features.run, as_of=until(day))
    return all_at_once, single


@pytest.mark.slow
@pytest.mark.timeout(1500)  # whichever is first makes the month
def test_thirty_single_days_a_backfill_and_one_full_run_give_the_same_tables(month: tuple[Shop, Shop]) -> None:
    check_that_all_ways_end_alike(*month, 30, ALWAYS_FOUND | {"too_late", "outlier_price"})


@pytest.mark.slow
@pytest.mark.timeout(1500)  # whichever is first makes the month
def test_thirty_single_days_of_ids_and_histories_equal_one_full_run(month: tuple[Shop, Shop]) -> None:
    all_at_once, single = month
    assert keyed(all_at_once) == keyed(single)


def check_that_all_ways_end_alike(all_at_once: Shop, single: Shop, days: int, reasons: set[str]) -> None:
    """Beside both a shop that caught up what it had missed, and one day of the whole that is run again."""
    root = all_at_once.root.parent
    backfill = shop(all_at_once.spark, root / "backfill", root / "landing")
    for day in (days // 3, days - 1):
        backfill.run("clean_events", cleaning.run, as_of=until(day))

    wanted = content(all_at_once)
    assert content(single) == wanted
    assert content(backfill) == wanted
    assert reasons <= {reason for row in all_at_once.table("quarantine").collect() for reason in row["reasons"]}

    all_at_once.run("clean_events", cleaning.run, as_of=until(days // 2))
    assert content(all_at_once) == wanted


def keyed(shop: Shop) -> tuple[list[str], list[str]]:
    """Items and histories by their strings: integer ids may differ, since they are given as ids are met."""
    items = sorted(map(repr, shop.table("items").drop("item_index").collect()))
    shop.run("build_datasets", datasets.run, as_of=until(29))
    names = {row["item_index"]: row["item_id"] for row in shop.table("item_ids").collect()}
    histories = [
        repr((row["user_id"], [names[item] for item in row["items"]], row["times"], row["event_types"], row["folds"]))
        for row in shop.table("histories").collect()
    ]
    return items, sorted(histories)


def test_what_landed_is_not_asked_for_again(spark: SparkSession, tmp_path: Path) -> None:
    deliver(tmp_path / "landing", range(2))
    daily = shop(spark, tmp_path / "shop", tmp_path / "landing", cleaning={"lateness_days": 2})
    daily.run("clean_events", cleaning.run)
    before = content(daily)
    for path in (tmp_path / "landing").rglob("*.csv"):
        path.unlink()
    deliver(tmp_path / "landing", [2])
    daily.run("clean_events", cleaning.run)

    files = {str(row[0]) for row in daily.table("clean_events").select("source_file").distinct().collect()}
    assert len(files) == 3
    assert set(before[0]) <= set(content(daily)[0])


def test_a_file_that_changed_after_tables_were_made_from_it_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    deliver(tmp_path / "landing", range(1))
    daily = shop(spark, tmp_path / "shop", tmp_path / "landing", cleaning={})
    daily.run("clean_events", cleaning.run)
    file = tmp_path / "landing" / str(FIRST) / "part.csv"
    file.write_text(file.read_text() + "2024-03-01T10:00:00,u9,i9,purchase,1,1.0\n")

    with pytest.raises(UserError, match=r"part\.csv: changed after it landed for 2024-03-01.*another name"):
        daily.run("clean_events", cleaning.run)


def test_a_bad_day_is_stopped_and_leaves_the_tables_of_yesterday(spark: SparkSession, tmp_path: Path) -> None:
    deliver(tmp_path / "landing", range(1))
    quality = {"max_reject_share": 0.5}
    daily = shop(spark, tmp_path / "shop", tmp_path / "landing", cleaning={}, quality=quality)
    daily.run("clean_events", cleaning.run)
    before = content(daily)
    bad = tmp_path / "landing" / "2024-03-02"
    bad.mkdir()
    (bad / "part.csv").write_text(f"{HEADER}\n" + "never,u1,i1,purchase,1,1.0\n" * 1000)

    with pytest.raises(UserError, match=r"not published, the tables stay as they were: .*reject"):
        daily.run("clean_events", cleaning.run, as_of=until(1))
    assert content(daily) == before
    assert b"<html" in daily.tracked.artifacts["quality/report.html"]

    deliver(tmp_path / "landing", [1])  # delivered again under the same name, since nothing was made from it
    daily.run("clean_events", cleaning.run, as_of=until(1))
    assert set(before[0]) < set(content(daily)[0])


def test_a_broken_file_is_quarantined_once_and_the_next_days_go_on(spark: SparkSession, tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    deliver(landing, range(3))
    (landing / "2024-03-01" / "empty.csv").touch()
    daily = shop(spark, tmp_path / "shop", landing, cleaning={"lateness_days": 2})
    for day in range(3):
        daily.run("clean_events", cleaning.run, as_of=until(day))
    at_once = shop(spark, tmp_path / "once", landing, cleaning={"lateness_days": 2})
    at_once.run("clean_events", cleaning.run)

    broken = [row for row in daily.table("quarantine").collect() if row["reasons"] == ["broken_file"]]
    assert [row["source_file"] for row in broken] == [f"{landing}/2024-03-01/empty.csv"]
    assert content(daily) == content(at_once)


def test_an_older_date_under_new_rules_keeps_the_later_days_and_nothing_new_changes_nothing(
    spark: SparkSession, tmp_path: Path
) -> None:
    landing = tmp_path / "landing"
    deliver(landing, range(3))
    daily = shop(spark, tmp_path / "shop", landing, cleaning={"lateness_days": 1})
    daily.run("clean_events", cleaning.run)
    daily.run("clean_events", cleaning.run, as_of=until(0), cleaning={"lateness_days": 2})
    wanted = content(daily)
    at_once = shop(spark, tmp_path / "once", landing, cleaning={"lateness_days": 2})
    at_once.run("clean_events", cleaning.run)
    assert wanted == content(at_once)

    daily.run("clean_events", cleaning.run, cleaning={"lateness_days": 2})
    assert "nothing has arrived since the last version" in daily.told
    assert content(daily) == wanted


def test_a_landing_that_lost_a_date_is_not_taken_for_the_whole(spark: SparkSession, tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    deliver(landing, range(2))
    daily = shop(spark, tmp_path / "shop", landing, cleaning={})
    daily.run("clean_events", cleaning.run)
    shutil.rmtree(landing / "2024-03-01")
    shutil.rmtree(next((daily.workspace.root / "landing").glob("*/2024-03-01")))

    with pytest.raises(UserError, match="2024-03-01 and 0 more arrival dates are gone"):
        daily.run("clean_events", cleaning.run, cleaning={"lateness_days": 2})

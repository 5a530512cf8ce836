"""Daily mode: raw rows land by arrival date, and a day is cleaned from what landed for it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_spark.errors import UserError
from recsys_spark.events import cleaning
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


@pytest.mark.parametrize("days", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_single_days_a_backfill_and_one_full_run_give_the_same_tables(
    spark: SparkSession, tmp_path: Path, days: int
) -> None:
    landing = tmp_path / "landing"
    deliver(landing, range(days))
    all_at_once, single, backfill = (shop(spark, tmp_path / name, landing) for name in ("full", "single", "backfill"))
    all_at_once.run("clean_events", cleaning.run)
    for day in range(days):
        single.run("clean_events", cleaning.run, as_of=until(day))
    for day in (days // 3, days - 1):  # what was missed is caught up
        backfill.run("clean_events", cleaning.run, as_of=until(day))

    wanted = content(all_at_once)
    assert content(single) == wanted
    assert content(backfill) == wanted
    reasons = {reason for row in all_at_once.table("quarantine").collect() for reason in row["reasons"]}
    assert {"too_late", "robot", "bad_event_time", "missing_user_id", "return", "outlier_price"} <= reasons

    all_at_once.run("clean_events", cleaning.run, as_of=until(days // 2))  # a day that is run again
    assert content(all_at_once) == wanted


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

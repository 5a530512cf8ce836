"""Measures of events and features: a quiet day, and a day with every fault, with numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from recsys_spark.monitoring.context import MonitorContext, Window
from recsys_spark.monitoring.events import measure_events, volume
from recsys_spark.monitoring.features import measure_features
from recsys_spark.monitoring.finding import Measure
from recsys_spark.monitoring.judging import judge
from recsys_spark.monitoring.profile import Profile
from tests.watched import SOURCE, Watched

DAY = date(2024, 3, 29)
DAYS, EVENTS, ITEMS, USERS = 28, 240, 40, 60
"""Days before DAY, and on each of them so many events: each item has 6, each user 4, each order 2."""
NEW, ROBOT_EVENTS = 20, 360

Rows = list[dict[str, Any]]


def event(day: date, user: str, item: str, **more: Any) -> dict[str, Any]:
    time = datetime.combine(day, datetime.min.time()) + timedelta(hours=12)
    known = {"user_id": user, "item_id": item, "event_type": "purchase", "event_time": time, "event_date": day}
    return {**known, "price": 2.0, "quantity": 1.0, "source_file": "f", "arrival_date": day, **more}


def usual(day: date) -> Rows:
    return [
        event(day, f"u{n % USERS}", f"i{n % ITEMS}", order_id=f"o{n // 2}", price=1.0 + n % ITEMS % 5)
        for n in range(EVENTS)
    ]


def faulty(day: date) -> Rows:
    """Prices in cents, half of the quantities missing, category c3 gone, a robot, and items that nobody knew."""
    rows = [row for row in usual(day) if int(row["item_id"][1:]) % 4 != 3]
    rows = [{**row, "price": row["price"] * 100, "order_id": None} for row in rows]
    rows += [event(day, "robot", "i0", price=100.0, event_type="view", quantity=None) for _ in range(ROBOT_EVENTS)]
    return rows + [event(day, "u1", f"new{n}", price=None) for n in range(NEW)]


def watched(spark: SparkSession, root: Path, today: Rows) -> MonitorContext:
    shop = Watched(spark, root)
    before = [row for back in range(1, DAYS + 1) for row in usual(DAY - timedelta(days=back))]
    shop.publish("clean_events", {"clean_events": [*before, *today], "quarantine": []})
    items = [{"item_id": f"i{n}", "category": f"c{n % 4}", "brand": "ours"} for n in range(ITEMS)]
    shop.publish("build_features", {"items": items})
    midnight = datetime.combine(DAY, datetime.min.time())
    shop.publish("build_datasets", {}, midnight, facts={"valid_start": None})
    return shop.context(DAY)


def by_name(measures: list[Measure]) -> dict[tuple[str, str], Any]:
    found = {(measure.name, measure.subject): measure for measure in measures}
    assert len(found) == len(measures)
    return found


@pytest.fixture(scope="module")
def bad(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitorContext]:
    context = watched(spark, tmp_path_factory.mktemp("bad"), faulty(DAY))
    yield context
    context.close()


@pytest.mark.slow
def test_a_day_like_the_others_is_all_right(spark: SparkSession, tmp_path: Path) -> None:
    context = watched(spark, tmp_path, usual(DAY))
    measures = measure_events(context) + measure_features(context)
    context.close()
    assert {finding.status for finding in judge(measures, {})} == {"ok"}
    found = by_name(measures)
    assert (found["volume_ratio", ""].value, found["volume_ratio", ""].reference) == (1.0, EVENTS)
    assert found["price_level", ""].value == pytest.approx(1.0)
    assert found["top_item", ""].value == found["top_user", ""].value == 1.0
    assert found["new_items_share", ""].value == 0.0
    assert [found["psi", name].value for name in ("price", "quantity", "activity", "basket", "hour")] == [
        pytest.approx(0, abs=0.01)
    ] * 5
    assert all(found["category_left", f"c{n}"].value == pytest.approx(1.0) for n in range(4))


def test_each_fault_of_a_day_is_measured(bad: MonitorContext) -> None:
    found = by_name(measure_events(bad))
    kept = EVENTS * 3 // 4
    events = kept + ROBOT_EVENTS + NEW
    assert (found["volume_ratio", ""].value, found["volume_ratio", ""].rows) == (events / EVENTS, events)
    assert found["price_level", ""].value == pytest.approx(100.0)
    assert (found["price_jumps", ""].value, found["price_jumps", ""].rows) == (1.0, ITEMS * 3 // 4)
    assert found["null_rise", "quantity"].value == pytest.approx(ROBOT_EVENTS / events)
    assert found["null_rise", "order_id"].value == 1.0
    top = found["top_item", ""]
    assert top.detail.startswith(f"i0 has {ROBOT_EVENTS + 6} of {events} events")
    assert top.reference == pytest.approx(6 / EVENTS)
    assert top.value == pytest.approx((ROBOT_EVENTS + 6) / events / (6 / EVENTS))
    assert found["top_user", ""].detail.startswith(f"robot has {ROBOT_EVENTS} of ")
    gone = found["category_left", "c3"]
    # Not a quarter of the day's events, of which the robot made most, but as many as on a usual day.
    assert (gone.value, gone.rows, gone.reference) == (0.0, EVENTS // 4, 0.25)
    views = ROBOT_EVENTS / events
    middle = views / 2
    divergence = (views * math.log2(views / middle) + (1 - views) * math.log2((1 - views) / (1 - middle))) / 2
    divergence += math.log2(1 / (1 - middle)) / 2
    assert found["type_mix", ""].value == pytest.approx(math.sqrt(divergence))
    assert "view 0.0% to " in found["type_mix", ""].detail


def test_each_fault_is_an_alert_that_names_it(bad: MonitorContext) -> None:
    alerts = [finding for finding in judge(measure_events(bad), {}) if finding.status == "alert"]
    assert {(alert.measure.name, alert.measure.subject) for alert in alerts} == {
        ("type_mix", ""),
        ("null_rise", "quantity"),
        ("null_rise", "order_id"),
        ("price_level", ""),
        ("price_jumps", ""),
        ("top_item", ""),
        ("top_user", ""),
        ("category_left", "c3"),
    }
    (level,) = [alert.sentence for alert in alerts if alert.measure.name == "price_level"]
    assert "the same 30 items cost 100 times what they cost" in level


def test_features_drift_against_the_training_window(bad: MonitorContext) -> None:
    found = by_name(measure_features(bad))
    assert found["ks", "price"].value > 0.6
    assert found["psi", "price"].value > 1
    assert found["ks", "quantity"].value == 0.0
    assert found["ks", "hour"].value == 0.0
    assert found["new_items_share", ""].value == pytest.approx(NEW / (EVENTS * 3 // 4 + ROBOT_EVENTS + NEW))
    assert found["js", "category"].value > 0.2
    assert found["psi", "activity"].rows == 46  # a quarter of the 60 users is gone, the robot came
    assert found["psi", "activity"].value > 0.1
    assert ("psi", "basket") not in found  # no order has an id


def test_a_day_without_events_is_an_alert(tmp_path: Path) -> None:
    days = [DAY - timedelta(days=back) for back in range(1, DAYS + 1)]
    profile = Profile({"event_type": {day: {"purchase": EVENTS} for day in days}})
    context = Watched(None, tmp_path).context(DAY)  # type: ignore[arg-type]
    (alert,) = judge([volume(context, profile)], {})
    assert (alert.status, alert.measure.value) == ("alert", 0.0)
    assert "0 events, 0 times the 240" in alert.sentence


@pytest.mark.parametrize("closed", ["03-29", "2024-03-29"])
def test_a_day_on_which_the_shop_is_closed_is_not_judged_and_not_compared_with(tmp_path: Path, closed: str) -> None:
    after = DAY + timedelta(days=7)
    days = [after - timedelta(days=back) for back in range(22)]
    profile = Profile({"event_type": {day: {"purchase": EVENTS} for day in days if day != DAY}})
    shop = Watched(None, tmp_path)  # type: ignore[arg-type]
    settings = {"monitoring": {"closed_days": [closed], "reference_days": 14}}
    assert volume(shop.context(DAY, **settings), profile).value is None
    found = volume(shop.context(after, **settings), profile)
    assert (found.value, found.reference) == (1.0, EVENTS), "the closed Friday is left out"
    assert volume(shop.context(after, monitoring={"reference_days": 14}), profile).reference == EVENTS / 2


def test_a_weekday_is_compared_with_its_like(tmp_path: Path) -> None:
    days = [DAY - timedelta(days=back) for back in range(DAYS + 1)]
    quiet_fridays = {day: {"purchase": 50 if day.weekday() == DAY.weekday() else 500} for day in days}
    context = Watched(None, tmp_path).context(DAY)  # type: ignore[arg-type]
    assert volume(context, Profile({"event_type": quiet_fridays})).value == 1.0
    first_days = {day: bins for day, bins in quiet_fridays.items() if day >= DAY - timedelta(days=3)}
    few = volume(context, Profile({"event_type": first_days}))
    assert (few.value, few.reference) == (0.1, 500), "one Friday is no usual Friday"
    assert volume(context, Profile({"event_type": {DAY: {"purchase": 5}}})).value is None


def test_days_are_as_complete_as_the_monitored_one(spark: SparkSession, tmp_path: Path) -> None:
    shop = Watched(spark, tmp_path)
    early, late = DAY - timedelta(days=7), DAY - timedelta(days=1)
    rows = [event(early, "u", "on_time"), event(early, "u", "a_day_late", arrival_date=early + timedelta(days=1))]
    rows += [event(late, "u", "b", arrival_date=DAY), event(DAY, "u", "today")]
    settings = {"source": [{**SOURCE, "arrival": {"path_pattern": r"(\d{4}-\d{2}-\d{2})"}}]}
    window = Window(DAY - timedelta(days=28), DAY + timedelta(days=1))

    def seen(as_of: date) -> list[str]:
        moment = datetime.combine(as_of, datetime.min.time())
        shop.publish("clean_events", {"clean_events": rows}, moment)
        events = shop.context(DAY, **settings).events(window)
        return sorted(row["item_id"] for row in events.select("item_id").collect())

    assert seen(DAY + timedelta(days=1)) == ["on_time", "today"]
    assert seen(DAY + timedelta(days=2)) == ["a_day_late", "b", "on_time", "today"]

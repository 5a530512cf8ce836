"""What a day is compared with: windows, versions as of that day, and what arrived on it."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys_spark.monitoring.arrivals import arrivals
from recsys_spark.monitoring.context import Window
from recsys_spark.monitoring.profile import Profile
from tests.watched import SOURCE, Watched

DAY = date(2024, 3, 29)
MIDNIGHT = datetime(2024, 3, 29)
A_DAY = timedelta(days=1)


@pytest.fixture
def shop(spark: SparkSession, tmp_path: Path) -> Watched:
    return Watched(spark, tmp_path)


def ending(last: date) -> Window:
    return Window(last - timedelta(days=84), last)


def test_the_training_window_ends_where_the_models_in_use_were_trained(shop: Watched) -> None:
    assert shop.context(DAY).training is None
    shop.publish("train_models", {}, MIDNIGHT - 3 * A_DAY)
    shop.publish("train_models", {}, MIDNIGHT + A_DAY)
    for as_of in (MIDNIGHT - A_DAY, MIDNIGHT + A_DAY):  # a night that keeps the model builds datasets too
        shop.publish("build_datasets", {}, as_of, facts={"valid_start": "2024-03-01T00:00:00"})
    assert shop.context(DAY).training == ending(DAY - 3 * A_DAY)


@pytest.mark.parametrize("as_of", [MIDNIGHT + A_DAY, MIDNIGHT + 9 * A_DAY])
def test_where_models_know_the_day_it_ends_where_the_evaluated_ones_were_trained(
    shop: Watched, as_of: datetime
) -> None:
    shop.publish("build_datasets", {}, as_of, facts={"valid_start": "2024-03-01T00:00:00"})
    assert shop.context(DAY).training == ending(date(2024, 3, 1))
    earlier = date(2024, 2, 1)
    assert shop.context(earlier).training == ending(earlier), "nothing of the day or later is in it"


def test_versions_are_those_that_were_made_by_then(shop: Watched) -> None:
    for days in (-1, 0, 1, 2):
        shop.publish("evaluate_models", {}, MIDNIGHT + days * A_DAY)
    context = shop.context(DAY)
    found = [context.commit("evaluate_models"), context.commit("evaluate_models", context.start)]
    assert [commit.version for commit in found if commit] == [3, 2]
    assert context.commit("fuse_recommendations") is None


def test_what_several_groups_need_is_made_once(shop: Watched) -> None:
    context, made = shop.context(DAY), []
    for _ in range(2):
        context.once("thing", lambda: made.append("thing"))
    assert made == ["thing"]


def test_delay_and_rejects_are_counted_by_day_of_arrival(shop: Watched) -> None:
    def event(arrival: date, late: int) -> dict[str, object]:
        return {"item_id": "i", "arrival_date": arrival, "event_date": arrival - late * A_DAY}

    # Before, one row in four is a day late and one in five is rejected; today one in two is two days late.
    before = [event(DAY - back * A_DAY, int(n == 0)) for back in range(1, 20) for n in range(4)]
    today = [event(DAY, 2), event(DAY, 0)]
    rejects = [{"arrival_date": DAY - back * A_DAY} for back in range(1, 20)] + [{"arrival_date": DAY}] * 2
    shop.publish("clean_events", {"clean_events": [*before, *today], "quarantine": rejects}, MIDNIGHT + A_DAY)
    daily = [{**SOURCE, "arrival": {"path_pattern": r"(\d{4}-\d{2}-\d{2})"}}]
    delay, rejected = arrivals(shop.context(DAY, source=daily), Profile())
    assert (delay.name, delay.value, delay.reference, delay.rows) == ("arrival_delay", 1.0 - 0.25, 0.25, 2)
    assert (rejected.name, rejected.reference, rejected.rows) == ("quarantined_rise", 0.2, 4)
    assert rejected.value == pytest.approx(0.5 - 0.2)

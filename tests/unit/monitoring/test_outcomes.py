"""What came of the live lists, against numbers worked out by hand, and another implementation."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession

from recsys_spark.monitoring.answered import Accuracy, Answered, answered
from recsys_spark.monitoring.bias import measure_bias
from recsys_spark.monitoring.context import MonitorContext
from recsys_spark.monitoring.finding import Measure
from recsys_spark.monitoring.outcomes import measure_outcomes
from recsys_spark.monitoring.usual import against_usual
from tests.watched import Watched, lists_of

DAY, MIDNIGHT = date(2024, 3, 6), datetime(2024, 3, 6)
NOON, EVENING, NEXT = (MIDNIGHT + timedelta(hours=hours) for hours in (12, 20, 24))
ITEMS = {"a": (100, 400, "fruit"), "b": (10, 100, "fruit"), "c": (1, 5, "meat"), "n": (0, None, None)}
"""Events before the day, age in days, category; n is new."""
USERS = {"u": 10, "v": 2, "w": 2, "x": 4, "new": 0}
"""Events before the day."""
SETTINGS: dict[str, Any] = {"evaluation": {"k": [3, 2], "user_activity": [3, 8]}}


def event(user: str, item: str, time: datetime, event_type: str = "purchase") -> dict[str, Any]:
    known = {"user_id": user, "item_id": item, "event_type": event_type, "event_time": time, "event_date": time.date()}
    return {**known, "source_file": "f", "source_order": 0}


def shop(
    watched: Watched,
    events: Sequence[Mapping[str, Any]],
    items: Mapping[str, tuple[int, int | None, str | None]],
    users: Mapping[str, int],
) -> dict[str, int]:
    """Publish what lists are made from, and the events; returns the inputs that lists name."""
    index = {item: place for place, item in enumerate(items)}
    features = [
        {"fit": fit, "item_id": item, "events": count if fit == "publish" else 10**6, "age_days": age}
        for item, (count, age, _) in items.items()
        for fit in ("select", "publish")
    ]
    active = [{"fit": fit, "user_id": user, "events": count} for user, count in users.items() for fit in ("publish",)]
    described = [{"item_index": index[item], "item_id": item, "category": about[2]} for item, about in items.items()]
    watched.publish("build_features", {"items": described})
    watched.publish("fit_features", {"item_features": features, "user_features": active})
    watched.publish("clean_events", {"clean_events": events})
    own = {"user_id": "u", "items": [1, 2], "event_types": [4, 1], "folds": [0, 2]}  # bought the second, saw the third
    watched.publish("build_datasets", {"histories": [own]})
    return {"build_features": 1, "fit_features": 1, "build_datasets": 1}


def means(users: int, ndcg: Any, hit_rate: Any) -> Accuracy:
    """Numbers to compare with, about."""
    return Accuracy(users, ndcg, hit_rate)


@pytest.fixture
def watched(spark: SparkSession, tmp_path: Path) -> Watched:
    """Lists that were live, and later ones that know what the day brought."""
    watched = Watched(spark, tmp_path)
    events = [
        *(event("u", "b", NOON), event("u", "b", NOON), event("u", "n", NOON), event("v", "a", MIDNIGHT)),
        *(event("w", "c", NOON), event("stranger", "a", NOON), event("new", "a", NOON)),
        *(event("u", "b", EVENING), event("w", "b", EVENING)),
        *(event("v", "b", NOON, "view"), event("x", "a", NOON, "view")),
        *(event("u", "a", MIDNIGHT - timedelta(seconds=1)), event("x", "a", NEXT)),
    ]
    inputs = shop(watched, events, ITEMS, USERS)
    live = {"u": "abc", "v": "bca", "x": "abc", "idle": "abc"}
    watched.publish("fuse_recommendations", {"recommendations": lists_of(live)}, MIDNIGHT, inputs=inputs)
    knowing = {"u": "bn", "v": "a", "w": "c", "stranger": "a", "new": "a"}
    watched.publish("fuse_recommendations", {"recommendations": lists_of(knowing)}, NEXT, inputs=inputs)
    return watched


def test_live_lists_are_measured_as_by_hand_and_never_those_that_know_the_day(watched: Watched) -> None:
    found = answered(watched.context(DAY, **SETTINGS))
    assert isinstance(found, Answered)
    assert (found.live.commit.version, found.k) == (1, 2)
    # Buyers: u, v, w, stranger and new, who has no event before; u and v had a list.
    assert (found.buyers, found.served) == (5, 2)
    # u: b at rank 2, n is unknown; v: a at rank 3, past the cut; w: no list. A perfect list would have got 1.
    second = 1 / math.log2(3)
    assert found.overall == means(3, pytest.approx(second / 3), pytest.approx(1 / 3))
    assert found.by_activity == {"heavy": means(1, pytest.approx(second), 1.0), "new": Accuracy(2, 0.0, 0.0)}
    # Exposure over the lists of u (abc) and v (bca), of whom each bought a relevant item: b and a.
    total = 2 * (1 + second + 0.5)
    assert set(found.spreads) == {"age", "popularity", "category"}  # no item has a brand
    category = found.spreads["category"]
    assert category.gap == pytest.approx((second + 0.5) / total)  # meat is on both lists, and nobody bought it
    assert category.worst.name in ("fruit", "meat")
    parts = {part.name: (part.exposure, part.relevance) for part in found.spreads["popularity"].parts}
    assert parts == {
        "head": (pytest.approx(1.5 / total), 0.5),
        "tail": (pytest.approx(1 - 1.5 / total), 0.5),
    }
    ages = {part.name: (part.exposure, part.relevance) for part in found.spreads["age"].parts}
    assert ages == {
        "from 180 days": (pytest.approx(1.5 / total), 0.5),
        "30 to 179 days": (pytest.approx((1 + second) / total), 0.5),
        "under 30 days": (pytest.approx((second + 0.5) / total), 0.0),
    }
    assert found.spreads["age"].gap == pytest.approx((second + 0.5) / total)


@pytest.mark.slow
def test_what_was_bought_before_is_not_relevant_under_drop_and_a_later_start_leaves_out_what_came_before_it(
    watched: Watched,
) -> None:
    inputs = {"build_features": 1, "fit_features": 1, "build_datasets": 1}
    # By the clock version 3 alone was in force on the day, from 13 o'clock on: what was bought at noon does not count.
    live = lists_of({"u": "abc", "v": "ba", "w": "cb"})
    told: dict[str, Any] = {"inputs": inputs, "facts": {"repeats": "drop", "k": 3}}
    published = NOON + timedelta(hours=1)
    watched.publish("fuse_recommendations", {"recommendations": live}, MIDNIGHT, published, **told)
    found = answered(watched.context(DAY, **SETTINGS))
    assert isinstance(found, Answered)
    assert (found.live.commit.version, found.live.start, found.live.end) == (3, published, NEXT)
    assert (found.buyers, found.served) == (3, 3)
    # u bought b before; w has b, and v its purchase without a time of day, at rank 2.
    assert found.overall == means(2, pytest.approx(1 / math.log2(3)), 1.0)


def test_outcomes_and_bias_are_told_from_one_answer(watched: Watched) -> None:
    context = watched.context(DAY, **SETTINGS)
    part = Accuracy(4, 0.25, 0.5)
    live = context.live
    assert live is not None
    context.once("answered", lambda: Answered(live, 2, 8, 6, part, {"light": part}, {}))
    outcomes = {measure.name: (measure.value, measure.rows) for measure in measure_outcomes(context)}
    assert outcomes == {"served_share": (0.75, 8), "ndcg": (0.25, 4), "hit_rate": (0.5, 4)}
    assert [(m.name, m.subject, m.value, m.rows) for m in measure_bias(context)] == [("segment_ndcg", "light", 0.25, 4)]


def test_click_through_of_explored_items_weighs_by_their_chance(spark: SparkSession, tmp_path: Path) -> None:
    watched = Watched(spark, tmp_path)
    events = [event("u", "n", NOON, "click"), event("v", "a", NOON), event("v", "n", NEXT, "click")]
    inputs = shop(watched, events, ITEMS, USERS)
    # n stands at rank 2 of u, who met it, and of v, who came and did not; x did not come.
    rows = [row for user in "uvx" for row in lists_of({user: "an"})]
    for row in rows:
        row["reason"] = "new in the shop" if row["item_id"] == "n" else "bought with it"
    chances = {"u": 0.1, "v": 0.5, "x": 0.25}
    shown = [{**row, "propensity": chances[row["user_id"]]} for row in rows]
    watched.publish("fuse_recommendations", {"recommendations": rows, "exposures": shown}, MIDNIGHT, inputs=inputs)
    context = watched.context(DAY, **SETTINGS)
    assert context.live is not None
    nobody = Answered(context.live, 2, 1, 0, Accuracy(0, 0.0, 0.0), {}, {})
    context.once("answered", lambda: nobody)
    _, found = measure_outcomes(context)
    assert found.name == "explored_click_through"
    assert found.value == pytest.approx((1 / 0.1) / (1 / 0.1 + 1 / 0.5))
    assert (found.rows, found.detail) == (2, "1 of 2 places")


def test_without_lists_of_the_time_nothing_is_measured(watched: Watched) -> None:
    assert measure_outcomes(watched.context(DAY - timedelta(days=1), **SETTINGS)) == []
    assert measure_bias(watched.context(DAY - timedelta(days=1), **SETTINGS)) == []


class History:
    """What is usual, as a context tells it."""

    def usual(self, key: str, subject: str = "") -> float | None:
        return {("bias.segment_ndcg", "new"): 0.5, ("bias.segment_ndcg", "light"): 0.0}.get((key, subject))


def test_a_ratio_to_what_is_usual_follows_where_that_is_known() -> None:
    def of(subject: str, value: float) -> Measure:
        return Measure(day=DAY, group="bias", name="segment_ndcg", subject=subject, value=value)

    measures = [of("new", 0.1), of("light", 0.1), of("light", 0.0), of("heavy", 0.1)]
    found = against_usual(cast(MonitorContext, History()), measures, {"segment_ndcg": "segment_ratio"})
    ratios = [(m.subject, m.value, m.reference) for m in found if m.name == "segment_ratio"]
    assert ratios == [("new", 0.2, 0.5), ("light", math.inf, 0.0), ("light", 1.0, 0.0)]


@pytest.mark.slow
def test_outcomes_of_a_drawn_shop_are_those_of_another_implementation(spark: SparkSession, tmp_path: Path) -> None:
    draw = random.Random(5)
    items = {f"i{n}": (draw.randrange(40), draw.choice([3, 90, 200]), draw.choice(["p", "q", None])) for n in range(25)}
    users = {f"u{n}": draw.randrange(12) for n in range(60)}
    bought = {user: draw.sample(sorted(items), draw.randrange(5)) for user in users}
    lists = {user: draw.sample(sorted(items), draw.randrange(9)) for user in users}
    watched = Watched(spark, tmp_path)
    events = [event(user, item, NOON) for user, own in bought.items() for item in own]
    inputs = shop(watched, events, items, users)
    watched.publish("fuse_recommendations", {"recommendations": lists_of(lists)}, MIDNIGHT, inputs=inputs)
    found = answered(watched.context(DAY, evaluation={"k": [5], "user_activity": [3, 8]}))
    assert isinstance(found, Answered)
    wanted = {u: {i for i in own if items[i][0] > 0} for u, own in bought.items() if users[u] > 0}
    ndcg = [
        sum(1 / math.log2(rank + 2) for rank, item in enumerate(lists[user][:5]) if item in own)
        / sum(1 / math.log2(rank + 2) for rank in range(min(5, len(own))))
        for user, own in wanted.items()
        if own
    ]
    hits = [any(item in own for item in lists[user][:5]) for user, own in wanted.items() if own]
    assert found.overall.users == len(ndcg)
    assert found.overall.ndcg == pytest.approx(sum(ndcg) / len(ndcg))
    assert found.overall.hit_rate == pytest.approx(sum(hits) / len(hits))
    compared = [user for user, own in wanted.items() if own and lists[user]]
    exposure: dict[str | None, float] = {}
    relevance: dict[str | None, float] = {}
    for user in compared:
        for rank, item in enumerate(lists[user], 1):
            exposure[items[item][2]] = exposure.get(items[item][2], 0) + 1 / math.log2(rank + 1)
        for item in wanted[user]:
            relevance[items[item][2]] = relevance.get(items[item][2], 0) + 1
    e, r = sum(exposure.values()), sum(relevance.values())
    gap = sum(abs(exposure.get(name, 0) / e - relevance.get(name, 0) / r) for name in ("p", "q", None)) / 2
    assert found.spreads["category"].gap == pytest.approx(gap)
